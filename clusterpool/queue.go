package clusterpool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// A queue is what is known of the calls of a class.
type queue struct {
	asked   int // calls that were asked for and have not come
	backlog int // calls that wait, as of the last one that came
	credit  int // for taking turns by weight

	requests []request // that have not been answered in full, together for asked calls
}

// A request is one for calls.
type request struct {
	id    uint64
	left  int       // calls that have not come: which request one came by is not known
	until time.Time // when it was over at the latest
}

// askFor is how long a request for calls stays with the servers, who then say that it is
// over. If they do not, it was lost, with the leader of the consumer as a rule, and nothing
// else would tell: its slots would be empty.
const (
	askFor   = 5 * time.Second
	askGrace = time.Second
)

// take notes that of the calls asked for n fewer are to come, which is the end of the
// request with this id, if there is one.
func (q *queue) take(n int, id uint64) {
	q.asked = max(q.asked-n, 0)
	q.requests = slices.DeleteFunc(q.requests, func(r request) bool { return r.id == id })
	excess := -q.asked
	for _, r := range q.requests {
		excess += r.left
	}
	for len(q.requests) > 0 && excess > 0 {
		r := &q.requests[0]
		k := min(r.left, excess)
		excess -= k
		if r.left -= k; r.left == 0 {
			q.requests = slices.Delete(q.requests, 0, 1)
		}
	}
	if excess < 0 { // those that came were counted to another one
		if len(q.requests) == 0 {
			q.asked = 0
		} else {
			q.requests[len(q.requests)-1].left -= excess
		}
	}
}

// lose gives up requests that were lost.
func (q *queue) lose(now time.Time) {
	for len(q.requests) > 0 && now.After(q.requests[0].until) {
		q.take(q.requests[0].left, q.requests[0].id)
	}
}

// forget gives up all requests.
func (q *queue) forget() { q.asked, q.requests = 0, nil }

// ask asks for as many calls as there are free slots. mu is held.
//
// While at most one class is known to have calls waiting, each is asked for all slots. Of
// several such, they take turns by their weights.
func (s *server) ask() {
	if s.draining || !s.ready || s.free == 0 {
		return
	}
	busy, asked := 0, 0
	for c := range s.queues {
		if s.queues[c].backlog > 0 {
			busy++
			asked += s.queues[c].asked
		}
	}
	var want [classes]int
	for c := range s.queues {
		if q := &s.queues[c]; busy < 2 || q.backlog == 0 {
			want[c] = s.free - q.asked
		}
	}
	if busy > 1 {
		for ; asked < s.free; asked++ {
			want[s.turn()]++
		}
	}
	for c, n := range want {
		if n > 0 {
			s.request(class(c), n)
		}
	}
}

// turn returns the class whose turn it is, of those with calls waiting: smooth weighted
// round robin. mu is held.
func (s *server) turn() class {
	best, total := class(-1), 0
	for c := range class(classes) {
		if s.queues[c].backlog == 0 {
			continue
		}
		total += c.weight()
		s.queues[c].credit += c.weight()
		if best < 0 || s.queues[c].credit > s.queues[best].credit {
			best = c
		}
	}
	s.queues[best].credit -= total
	return best
}

// request asks for n calls of a class: in one request, not one for each slot, since those
// that wait with the servers are counted, too (pitfall 7). mu is held.
func (s *server) request(c class, n int) {
	q := &s.queues[c]
	s.asks++
	q.asked += n
	q.requests = append(q.requests, request{s.asks, n, time.Now().Add(askFor + askGrace)})
	m := &nats.Msg{
		Subject: "$JS.API.CONSUMER.MSG.NEXT." + s.tasks() + "." + s.consumer(c, s.cfg.Build),
		Reply:   s.inbox + "." + c.String() + "." + strconv.FormatUint(s.asks, 36),
		Data:    fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, n, askFor),
	}
	_ = s.nc.PublishMsg(m) // keep asks again
}

// status hears that a request for calls is over.
func (s *server) status(c class, status string, m *nats.Msg) {
	left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.queues[c]
	if err != nil {
		left = q.asked // all requests: what is asked for too much is given back
	}
	id, _ := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 36, 64) // 0 is none
	q.take(left, id)
	switch {
	case status == "503" || status == "409" && strings.Contains(strings.ToLower(m.Header.Get("Description")), "consumer deleted"):
		q.forget()
		s.again()
	case status == "409":
		q.forget()
		time.AfterFunc(50*time.Millisecond, s.askSoon)
	default: // 404, 408: it has expired
		q.backlog = 0
		if q.asked == 0 {
			s.ask()
		} // otherwise some wait, and keep asks for the rest, and not slot by slot
	}
}

func (s *server) askSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask()
}
