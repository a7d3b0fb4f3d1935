package clusterpool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A link is a connection to the servers with what both ends of a call do over it.
type link struct {
	names
	nc     *nats.Conn
	js     jetstream.JetStream
	pub    *publisher
	log    *slog.Logger
	denied *denials
}

func newLink(nc *nats.Conn, pool string, log *slog.Logger, denied *denials, doubt func()) (link, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return link{}, err
	}
	pub, err := newPublisher(nc, log, doubt)
	if err != nil {
		return link{}, err
	}
	denied.mu.Lock()
	denied.publish = pub.denied
	denied.mu.Unlock()
	return link{names{pool}, nc, js, pub, log, denied}, nil
}

// apiPatience is how long a request may take. None goes without a limit: where somebody
// listens who does not answer, it would hang (pitfall 15).
const apiPatience = 2 * time.Second

// A stored message is one that a stream has.
type stored struct {
	subject string
	seq     uint64
	data    []byte
}

// last returns the last message of stream under subject, from its leader: another replica
// may be behind. found is false, without an error, if there is none.
func (l *link) last(ctx context.Context, stream, subject string) (m stored, found bool, err error) {
	return l.message(ctx, stream, map[string]any{"last_by_subj": subject})
}

// message is last for the message that a request to get one names.
func (l *link) message(ctx context.Context, stream string, which map[string]any) (m stored, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	body, err := json.Marshal(which)
	if err != nil {
		return m, false, err
	}
	answer, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return m, false, fmt.Errorf("%w: %w", errNoBroker, err)
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return m, false, err
	}
	switch {
	case r.Error == nil:
		return stored{r.Message.Subject, r.Message.Seq, r.Message.Data}, true, nil
	case r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return m, false, nil
	default:
		return m, false, r.Error
	}
}

// isStreamGone reports whether err says that there is no such stream.
func isStreamGone(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamNotFound
}

// glance is last from whichever replica is at hand, which may be behind.
func (l *link) glance(ctx context.Context, stream, subject string) (m stored, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	answer, err := l.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return m, false, err
	}
	if status := answer.Header.Get("Status"); status != "" {
		return m, false, nil
	}
	seq, err := strconv.ParseUint(answer.Header.Get("Nats-Sequence"), 10, 64)
	return stored{subject, seq, answer.Data}, err == nil, err
}

// lastRecord returns the last record of a call. found is false if there is none.
func (l *link) lastRecord(ctx context.Context, id string) (r record, found bool, err error) {
	m, found, err := l.last(ctx, l.state(), l.record(id))
	if err != nil || !found {
		return r, false, err
	}
	r, err = parseRecord(m.data, m.seq)
	return r, err == nil, err
}

// recordMsg returns the message that makes r the last record of a call, if that is after
// now. One of a call that nobody runs goes after keep, unless that is 0.
func (l *link) recordMsg(id string, r *record, after uint64, keep time.Duration) *nats.Msg {
	m := &nats.Msg{Subject: l.record(id), Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(after, 10)},
	}, Data: r.append(nil)}
	if keep > 0 && (r.kind != recRunning || r.free) {
		m.Header[jetstream.MsgTTLHeader] = []string{ttl(keep)}
	}
	return m
}

// ttl returns d as the servers want it, in whole seconds.
func ttl(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) + "s"
}

// deleteTask has the servers forget a task that will not run, some time soon.
func (l *link) deleteTask(seq uint64) {
	body := fmt.Appendf(nil, `{"seq":%d,"no_erase":true}`, seq)
	_ = l.nc.Publish("$JS.API.STREAM.MSG.DELETE."+l.tasks(), body) // else a worker comes across it
}

// removeTask is deleteTask, and returns nil once the servers say that it is done.
func (l *link) removeTask(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	body := fmt.Appendf(nil, `{"seq":%d,"no_erase":true}`, seq)
	answer, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.DELETE."+l.tasks(), body)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoBroker, err)
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Success bool                `json:"success"`
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return err
	}
	switch {
	case r.Error != nil && (r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound || r.Error.ErrorCode == 10043 || r.Error.ErrorCode == 10057):
		return nil // there is no message of that number any more
	case r.Error != nil:
		return r.Error
	case !r.Success:
		return fmt.Errorf("clusterpool: message %d of %s was not deleted", seq, l.tasks())
	}
	return nil
}

func (l *link) blobStore(ctx context.Context) (jetstream.ObjectStore, error) {
	store, err := l.js.ObjectStore(ctx, l.blobs())
	if err != nil {
		return nil, fmt.Errorf("clusterpool: the object store %s: %w", l.blobs(), err)
	}
	return store, nil
}

// blobPatience is how long the transfer of n bytes may take, all tries together.
func blobPatience(n int) time.Duration {
	return 30*time.Second + time.Duration(n)*time.Microsecond // 1 MB/s
}

// absentFor is how long it is looked for a blob that is not there: another replica may be
// asked, or the store is about to be made anew.
const absentFor = 3 * time.Second

func (l *link) putBlob(key string, data []byte) error {
	return l.transfer(blobPatience(len(data)), false, func(limit func(int) context.Context) error {
		ctx := limit(len(data))
		store, err := l.blobStore(ctx)
		if err == nil {
			_, err = store.Put(ctx, jetstream.ObjectMeta{Name: key}, &yieldingReader{Reader: *bytes.NewReader(data)})
		}
		return err
	})
}

// A yieldingReader lets others run before it says that it is at its end. With the first part
// of an object nats.go (v1.55) starts a goroutine that stays for ever if it gets to run only
// after the last one was answered, as it may where all processors are busy.
type yieldingReader struct{ bytes.Reader }

func (r *yieldingReader) Read(b []byte) (int, error) {
	if r.Len() == 0 {
		runtime.Gosched()
	}
	return r.Reader.Read(b)
}

func (l *link) getBlob(key string) (data []byte, err error) {
	err = l.transfer(blobPatience(1<<30), true, func(limit func(int) context.Context) error {
		ctx := limit(0)
		store, err := l.blobStore(ctx)
		if err != nil {
			return err
		}
		info, err := store.GetInfo(ctx, key)
		if err == nil {
			data, err = store.GetBytes(limit(int(info.Size)), key)
		}
		return err
	})
	return data, err
}

// isAbsent reports whether err says that a blob, or the store, is not there.
func isAbsent(err error) bool {
	return errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}

// transfer calls try, again and again until it succeeds or patience is over: the object
// store itself gives up, or waits for as long as it may, when the connection or a server is
// lost under way. So a try has a limit of its own, by the bytes that it moves, which grows
// with every one. What is to be there and is not is soon given up.
func (l *link) transfer(patience time.Duration, there bool, try func(limit func(int) context.Context) error) error {
	began := time.Now()
	var absent time.Time // since when
	for n := 0; ; n++ {
		var cancels []context.CancelFunc
		err := try(func(bytes int) context.Context {
			least := 5*time.Second + time.Duration(bytes)*100*time.Nanosecond // 10 MB/s
			ctx, cancel := context.WithTimeout(context.Background(), least<<min(n, 4))
			ctx, done := l.denied.during(ctx, l.blobs())
			cancels = append(cancels, done, cancel)
			return ctx
		})
		err = l.denied.explain(err)
		for _, cancel := range cancels {
			cancel()
		}
		now := time.Now()
		switch {
		case err == nil:
			return nil
		case !isAbsent(err):
			absent = time.Time{}
		case absent.IsZero():
			absent = now
		case there && now.Sub(absent) > absentFor:
			return err
		}
		if now.Sub(began) > patience || l.nc.IsClosed() || errors.Is(err, nats.ErrPermissionViolation) {
			return err
		}
		select {
		case <-l.pub.quit:
			return err
		case <-time.After(10 * time.Millisecond << min(n, 6)):
		}
	}
}

func (l *link) deleteBlob(key string) {
	ctx, cancel := context.WithTimeout(context.Background(), apiPatience)
	defer cancel()
	if store, err := l.blobStore(ctx); err == nil {
		_ = store.Delete(ctx, key) // its time to live is the net
	}
}

// inline is how much fits into a message: what is larger goes to the object store, although
// a server could be told to take larger ones. Above 8 MiB it warns of it, and a cluster that
// somebody else runs mostly has 1 MiB (pitfall 12).
func (l *link) inline() int { return min(int(l.nc.MaxPayload()), 8<<20) - 8<<10 }

// A delivery is what the subject for the answer to a message from a consumer tells of it.
type delivery struct {
	times   int    // that it was delivered, this one included
	seq     uint64 // in the stream
	stored  time.Time
	pending int // messages behind it, for the same consumer
}

var errNotDelivery = errors.New("clusterpool: not a message from a consumer")

// parseDelivery reads $JS.ACK.<stream>.<consumer>.<times>.<seq>.<consumer seq>.<time>.<pending>,
// which has a domain and a hash of the account in front of the stream where there are such,
// and more behind.
func parseDelivery(reply string) (d delivery, err error) {
	rest, ok := strings.CutPrefix(reply, "$JS.ACK.")
	if !ok {
		return d, errNotDelivery
	}
	tokens := strings.Split(rest, ".")
	if len(tokens) >= 9 {
		tokens = tokens[2:]
	}
	if len(tokens) < 7 {
		return d, errNotDelivery
	}
	var n [5]uint64
	for i := range n {
		if n[i], err = strconv.ParseUint(tokens[2+i], 10, 63); err != nil {
			return d, errNotDelivery
		}
	}
	return delivery{int(n[0]), n[1], time.Unix(0, int64(n[3])), int(n[4])}, nil
}
