package clusterpool

import (
	"strconv"
	"time"
)

// A client's calls are numbered in generations, which are a part of their records'
// subjects: the records of a whole generation can be let go of by one request. An outcome
// has a time to live, an hour as a rule; in that time a busy client makes more of them than
// a server's memory may hold. It has taken them in, and nobody else will mostly ask. So
// those above a number go early, the oldest generation first.

const (
	generationLen = 1 << 16 // calls of a generation
	keptOutcomes  = 1 << 18 // calls that have ended and whose records are left to their time to live
)

type generations struct {
	epoch   string        // of this pool: generations of one before, under the same client, are others
	life    time.Duration // how long one takes calls; 0: until it is full
	made    int
	current *generation
	ended   []*generation // complete, and its calls have all ended; the oldest first
	open    []*generation // complete, but for calls that go on
	kept    int           // calls of ended
}

type generation struct {
	name  string
	calls int
	left  int       // calls that have not ended
	born  time.Time // when the first one began
	last  time.Time // when the last one ended, or none was added any more
	swept time.Time // when it was last begun to remove the tasks that its calls had left; zero: not yet
	gone  time.Time // when that was done
}

// next returns the next call's generation and ID.
func (g *generations) next(client string) (*generation, string) {
	if g.current != nil && g.current.calls == generationLen {
		g.complete()
	}
	if g.current == nil {
		if g.epoch == "" {
			g.epoch = randomName(8)
		}
		g.made++
		g.current = &generation{name: g.epoch + strconv.Itoa(g.made), born: time.Now()}
	}
	c := g.current
	c.calls++
	c.left++
	return c, client + "." + c.name + "." + base62(uint64(c.calls))
}

// settled notes that a call has ended.
func (c *generation) settled() {
	c.left--
	c.last = time.Now()
}

// complete adds no more calls to the current generation.
func (g *generations) complete() {
	g.current.last = time.Now()
	g.open = append(g.open, g.current)
	g.current = nil
}

// due returns the generations whose tasks are to be swept: some of their calls have ended,
// the last one longer ago than wait, and they have not been since; or, where calls end all the
// time, they have not been for long. A task whose call has ended is gone, as a rule, but for
// one that a worker could not ack or the client not delete; it must not be there any more when
// the call's record is not.
func (g *generations) due(wait time.Duration) (all []*generation) {
	if g.current != nil && g.life > 0 && time.Since(g.current.born) > g.life {
		g.complete()
	}
	for _, list := range [][]*generation{g.open, g.ended} {
		for _, c := range list {
			rest := time.Since(c.last) > wait || g.life > 0 && time.Since(c.born) > g.life && time.Since(c.swept) > g.life
			if rest && c.left < c.calls && !c.clean(wait) {
				all = append(all, c)
			}
		}
	}
	return all
}

// clean reports whether the tasks of the calls that have ended were removed.
func (c *generation) clean(wait time.Duration) bool {
	return c.swept.After(c.last.Add(wait))
}

// release returns the generations whose records may go: all of their calls have ended, their
// tasks have been gone for longer than wait, and either the last one has ended longer ago than
// any delivery may come late, and there are enough younger ones, or longer ago than keep: then
// they should have gone by themselves.
func (g *generations) release(wait, late, keep time.Duration) (names []string) {
	var open []*generation
	for _, c := range g.open {
		if c.left > 0 {
			open = append(open, c)
			continue
		}
		g.ended = append(g.ended, c)
		g.kept += c.calls
	}
	g.open = open
	for len(g.ended) > 0 {
		c, ago := g.ended[0], time.Since(g.ended[0].last)
		if !c.clean(wait) || time.Since(c.gone) <= wait || ago <= keep && (g.kept <= keptOutcomes || ago <= late) {
			break
		}
		names = append(names, c.name)
		g.kept -= c.calls
		g.ended[0] = nil
		g.ended = g.ended[1:]
	}
	return names
}
