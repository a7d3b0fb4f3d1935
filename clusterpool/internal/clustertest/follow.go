package clustertest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	readyWithin = 20 * time.Second     // how long anything may take that a test waits for
	look        = 5 * time.Millisecond // between two looks
	fetchFor    = time.Second          // how long one request of a Follower stays open
	fetchMost   = 500                  // records for one request
)

// A Follower reads a stream from its beginning, and goes on reading until the test ends. It
// is safe for concurrent use.
//
// It outlives its servers: it reads on when they are back, and from the start where the
// stream was lost or made anew. It counts a record once however often it reads it.
type Follower struct {
	tb     testing.TB
	nc     *nats.Conn
	js     jetstream.JetStream
	stream string
	done   chan struct{} // closed when nothing reads any more

	mu      sync.Mutex // guards the fields below
	created time.Time  // tells the stream from another of its name
	cursor  uint64     // the last sequence that was read
	top     uint64     // the highest one, which a reader that started over has yet to reach
	missed  uint64
	counted map[identity]struct{}
	finals  map[string]int
}

// An identity tells a record from all others, also from those of a stream that was lost
// without a new one being made and so numbers its records from one again.
type identity struct {
	sequence uint64
	time     int64
}

// Follow starts to follow a stream, which need not exist yet. url is as for [nats.Connect],
// with options that are added to those of the Follower: it connects again for ever.
//
// Where the stream exists, Follow has read a part of it when it returns, so no record that
// is replaced from then on is one that the Follower has not begun to look for.
func Follow(t testing.TB, url, stream string, options ...nats.Option) *Follower {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.Name("follower of " + stream),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond),
		nats.RetryOnFailedConnect(true),
		nats.Timeout(time.Second),
		nats.PingInterval(time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)...)
	if err != nil {
		t.Fatalf("follow %s: %v", stream, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		t.Fatalf("follow %s: %v", stream, err)
	}
	f := &Follower{
		tb: t, nc: nc, js: js, stream: stream, done: make(chan struct{}),
		counted: map[identity]struct{}{}, finals: map[string]int{},
	}
	ctx, cancel := context.WithCancel(context.Background()) // ends after the test's own, so that cleanups still find what happens in them
	begun := make(chan struct{})
	go f.run(ctx, begun) // until the cleanup
	t.Cleanup(func() {
		cancel()
		nc.Close()
		<-f.done
	})
	select {
	case <-begun:
	case <-time.After(readyWithin):
		t.Fatalf("follow %s: no answer from %s", stream, url)
	}
	return f
}

// run reads until ctx ends. Each round makes a consumer and reads by it until there is
// reason to doubt it: an error, a missing record, silence while the stream has more.
// What package jetstream calls an ordered consumer does the same, but goes by the sequence
// alone, so it waits for ever at the end of a stream that was made anew, and stopping it
// takes as long as its current step back.
func (f *Follower) run(ctx context.Context, begun chan struct{}) {
	defer close(f.done)
	var once sync.Once
	for ctx.Err() == nil {
		err := f.read(ctx, func() { once.Do(func() { close(begun) }) })
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			once.Do(func() { close(begun) })
		}
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
	}
}

// read makes a consumer and reads by it. It returns an error in the end.
func (f *Follower) read(ctx context.Context, begun func()) error {
	info, err := f.info(ctx)
	if err != nil {
		return err
	}
	from := f.resume(info)
	cons, err := bounded(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return f.js.CreateConsumer(ctx, f.stream, jetstream.ConsumerConfig{
			DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:       from,
			AckPolicy:         jetstream.AckNonePolicy,
			InactiveThreshold: 5 * time.Second,
			MemoryStorage:     true,
			Replicas:          1,
		})
	})
	if err != nil {
		return err
	}
	defer func() { // the threshold does it where this fails
		_, _ = bounded(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, f.js.DeleteConsumer(ctx, f.stream, cons.CachedInfo().Name)
		})
	}()
	delivered := uint64(0)
	for silent := 0; ctx.Err() == nil; {
		batch, err := cons.Fetch(fetchMost, jetstream.FetchMaxWait(fetchFor), jetstream.FetchHeartbeat(fetchFor/3))
		if err != nil {
			return err
		}
		silent++
		for msg := range batch.Messages() {
			silent = 0
			meta, err := msg.Metadata()
			if err != nil {
				return err
			}
			if delivered++; meta.Sequence.Consumer != delivered {
				return errors.New("a record was lost on the way")
			}
			f.count(meta, msg)
			begun()
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			return err
		}
		begun()
		if silent == 0 {
			continue
		}
		now, err := f.info(ctx)
		switch {
		case err != nil:
			return err
		case !now.Created.Equal(info.Created), now.State.LastSeq < f.at():
			return errors.New("the stream was made anew")
		case silent > 1 && now.State.LastSeq > info.State.LastSeq && now.State.LastSeq > f.at():
			return errors.New("the consumer is silent") // or the end was deleted: asked once for each end
		}
	}
	return ctx.Err()
}

// resume returns the sequence from which a new consumer reads.
func (f *Follower) resume(info *jetstream.StreamInfo) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !info.Created.Equal(f.created) {
		f.created, f.cursor, f.top = info.Created, 0, 0
	}
	if info.State.LastSeq < f.cursor { // lost, or a server that lags behind answers
		f.cursor = 0
	}
	return f.cursor + 1
}

func (f *Follower) at() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cursor
}

func (f *Follower) count(meta *jetstream.MsgMetadata, msg jetstream.Msg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cursor = meta.Sequence.Stream
	if f.cursor > f.top {
		f.missed += f.cursor - f.top - 1
		f.top = f.cursor
	}
	if b := msg.Data(); len(b) == 0 || b[0] != 'D' && b[0] != 'C' {
		return
	}
	id := identity{sequence: f.cursor, time: meta.Timestamp.UnixNano()}
	if _, ok := f.counted[id]; !ok {
		f.counted[id] = struct{}{}
		f.finals[msg.Subject()]++
	}
}

// Finals returns for each subject how many final records the Follower has read so far:
// those whose body begins with D or C. What the stream has that it has not yet read is not
// in it; see [Follower.Sync].
func (f *Follower) Finals() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.finals)
}

// Missed returns how many records were replaced or deleted before the Follower read them,
// so that nobody knows what they were. In a stream that keeps the last record of a subject
// it is mostly those that say that a call runs.
func (f *Follower) Missed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int(f.missed)
}

// Sync waits until the Follower has read all that the stream has at the time of the call.
func (f *Follower) Sync() {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin) // for cleanups too
	defer cancel()
	created, last, err := f.last(ctx)
	for err != nil {
		select {
		case <-ctx.Done():
			f.tb.Fatalf("follow %s: the end of the stream: %v", f.stream, err)
		case <-time.After(look):
		}
		created, last, err = f.last(ctx)
	}
	for !f.reached(created, last) {
		select {
		case <-ctx.Done():
			f.tb.Fatalf("follow %s: read to %d of %d within %v", f.stream, f.at(), last, readyWithin)
		case <-time.After(look):
		}
	}
}

func (f *Follower) reached(created time.Time, last uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return last == 0 || f.created.Equal(created) && f.cursor >= last
}

// last returns the sequence of the last record that the stream still has; zero is none.
func (f *Follower) last(ctx context.Context) (created time.Time, sequence uint64, err error) {
	info, err := f.info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return time.Time{}, 0, err
	}
	stream, err := bounded(ctx, func(ctx context.Context) (jetstream.Stream, error) { return f.js.Stream(ctx, f.stream) })
	if err != nil {
		return time.Time{}, 0, err
	}
	_, err = bounded(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return stream.GetMsg(ctx, info.State.LastSeq)
	})
	if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return info.Created, info.State.LastSeq, err
	}
	info, err = f.info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return time.Time{}, 0, err
	}
	end := info.State.LastSeq
	for _, gone := range slices.Backward(info.State.Deleted) {
		if gone != end {
			break
		}
		end--
	}
	return info.Created, end, nil
}

func (f *Follower) info(ctx context.Context, options ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return bounded(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		s, err := f.js.Stream(ctx, f.stream)
		if err != nil {
			return nil, err
		}
		if len(options) == 0 {
			return s.CachedInfo(), nil
		}
		return s.Info(ctx, options...)
	})
}

// bounded calls fn with a deadline: a server that was stopped does not answer.
func bounded[T any](ctx context.Context, fn func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return fn(ctx)
}

// FinalRecords returns for each subject of a stream how many of the records that it has now
// are final: those whose body begins with D or C. url and options are as for [Follow].
func FinalRecords(t testing.TB, url, stream string, options ...nats.Option) map[string]int {
	t.Helper()
	f := Follow(t, url, stream, options...)
	f.Sync()
	return f.Finals()
}
