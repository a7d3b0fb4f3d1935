package ipc_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
)

func newPipe[T any](tb testing.TB, duplex bool) (a, b *ipc.Conn[T]) {
	tb.Helper()
	a, b, err := ipc.Pipe[T](duplex)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, a.Close())
		require.NoError(tb, b.Close())
	})
	return a, b
}

func TestPipeBothWays(t *testing.T) { // CON-01, CON-11
	ctx := proctest.Within(t)
	a, b := newPipe[nested](t, true)
	for _, ends := range [][2]*ipc.Conn[nested]{{a, b}, {b, a}} {
		for i := range 10 {
			require.NoError(t, ends[0].Send(ended(), nested{Name: strconv.Itoa(i), Bytes: pattern(uint64(i), i*100)}))
		}
		for i := range 10 {
			v, err := ends[1].Recv(ended())
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(i), v.Name)
			require.True(t, bytes.Equal(pattern(uint64(i), i*100), v.Bytes))
		}
		_, err := ends[1].Recv(ended())
		require.ErrorIs(t, err, context.Canceled)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		_, err = ends[1].Recv(short)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestPipeOneWay(t *testing.T) { // CON-06
	a, b := newPipe[int](t, false)
	require.EqualError(t, a.Send(t.Context(), 1), "ipc: send: this end of a one-way pipe only receives")
	_, err := b.Recv(t.Context())
	require.EqualError(t, err, "ipc: receive: this end of a one-way pipe only sends")
	_, err = b.Poll(t.Context())
	require.EqualError(t, err, "ipc: receive: this end of a one-way pipe only sends")
	require.NoError(t, b.Send(t.Context(), 1))
	v, err := a.Recv(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, v)
	require.NoError(t, a.Close())
	require.Equal(t, io.ErrClosedPipe, b.Send(t.Context(), 1))
}

func TestPipePoll(t *testing.T) { // CON-03, CON-09, CON-10
	ctx := proctest.Within(t)
	a, b := newPipe[[]byte](t, true)
	ready, err := b.Poll(ended())
	require.NoError(t, err)
	require.False(t, ready)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	ready, err = b.Poll(short)
	require.NoError(t, err)
	require.False(t, ready)

	b2 := again(t, b)
	var pollers []<-chan error
	for _, c := range []*ipc.Conn[[]byte]{b, b, b2} {
		pollers = append(pollers, waits(t, func() error {
			ready, err := c.Poll(ctx)
			if err == nil && !ready {
				err = errors.New("not ready")
			}
			return err
		}))
	}
	require.NoError(t, a.Send(ctx, nil)) // an empty message is a message
	for _, p := range pollers {
		require.NoError(t, <-p)
	}
	for range 3 {
		ready, err = b.Poll(ended())
		require.NoError(t, err)
		require.True(t, ready)
	}
	v, err := b2.Recv(ended())
	require.NoError(t, err)
	require.Empty(t, v)
	ready, err = b.Poll(ended())
	require.NoError(t, err)
	require.False(t, ready)

	// The end can be polled for, too.
	poller := waits(t, func() error { _, err := b.Poll(ctx); return err })
	require.NoError(t, a.Close())
	require.NoError(t, <-poller)
	ready, err = b.Poll(ended())
	require.NoError(t, err)
	require.True(t, ready)
	_, err = b.Recv(ended())
	require.Equal(t, io.EOF, err)
	require.NoError(t, b2.Close())
}

func TestPipeEnds(t *testing.T) { // CON-05
	ctx := proctest.Within(t)
	a, b := newPipe[[]byte](t, true)
	for _, n := range []int{3, 1000, 100_000} {
		require.NoError(t, a.Send(ctx, pattern(1, n)))
	}
	require.NoError(t, a.Close())
	require.Equal(t, io.ErrClosedPipe, b.Send(ctx, nil))
	for _, n := range []int{3, 1000, 100_000} {
		v, err := b.Recv(ctx)
		require.NoError(t, err)
		require.True(t, bytes.Equal(pattern(1, n), v))
	}
	for range 2 {
		_, err := b.Recv(ctx)
		require.Equal(t, io.EOF, err)
	}
	require.Equal(t, io.ErrClosedPipe, b.Send(ctx, nil))
}

func TestPipeEndsForWhoWaits(t *testing.T) {
	ctx := proctest.Within(t)
	a, b := newPipe[[]byte](t, true)
	a2 := again(t, a)
	receivers := []<-chan error{}
	for range 4 {
		receivers = append(receivers, waits(t, func() error { _, err := b.Recv(ctx); return err }))
	}
	for n := 0; ; n++ {
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		err := b.Send(short, nil)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.GreaterOrEqual(t, n, 1000)
			break
		}
	}
	sender := waits(t, func() error { return b.Send(ctx, nil) })
	require.NoError(t, a.Close())
	select {
	case err := <-receivers[0]:
		t.Fatalf("it ended before everybody had closed: %v", err)
	case <-time.After(20 * time.Millisecond): // time for a mistake: that nothing happens has no event
	}
	require.NoError(t, a2.Close())
	for _, r := range receivers {
		require.Equal(t, io.EOF, <-r)
	}
	require.Equal(t, io.ErrClosedPipe, <-sender)
}

func TestPipeClose(t *testing.T) { // CON-12
	ctx := proctest.Within(t)
	a, b := newPipe[int](t, true)
	receiver := waits(t, func() error { _, err := a.Recv(ctx); return err })
	poller := waits(t, func() error { _, err := a.Poll(ctx); return err })
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	require.Equal(t, ipc.ErrClosed, <-receiver)
	require.Equal(t, ipc.ErrClosed, <-poller)
	require.Equal(t, ipc.ErrClosed, a.Send(ctx, 1))
	_, err := a.Recv(ctx)
	require.Equal(t, ipc.ErrClosed, err)
	_, err = a.Poll(ctx)
	require.Equal(t, ipc.ErrClosed, err)
	require.NoError(t, b.Close())
	var zero ipc.Conn[int]
	require.Equal(t, ipc.ErrClosed, zero.Send(ctx, 1))
	require.NoError(t, zero.Close())
	require.ErrorIs(t, gob.NewEncoder(io.Discard).Encode(&zero), executor.ErrNotPortable)
	_, err = zero.Export()
	require.ErrorIs(t, err, ipc.ErrClosed)
}

func TestPipeBuffers(t *testing.T) {
	for _, tc := range []struct{ bytes, messages int }{{1, 1000}, {300, 300}, {1000, 70}, {4096, 16}, {8192, 8}, {64 << 10, 1}, {1 << 20, 1}, {100 << 20, 1}} {
		t.Run(strconv.Itoa(tc.bytes), func(t *testing.T) {
			if tc.bytes > 1<<20 && (testing.Short() || raceEnabled) {
				t.Skip("it takes a lot of memory")
			}
			a, b := newPipe[[]byte](t, true)
			for i := range tc.messages {
				require.NoError(t, a.Send(ended(), pattern(uint64(i), tc.bytes)))
			}
			for i := range tc.messages {
				v, err := b.Recv(ended())
				require.NoError(t, err)
				require.True(t, bytes.Equal(pattern(uint64(i), tc.bytes), v))
			}
		})
	}
}

func TestPipeDoesNotBufferWithoutEnd(t *testing.T) {
	a, b := newPipe[[]byte](t, true)
	big := make([]byte, 20<<20)
	for range 2 {
		require.NoError(t, a.Send(ended(), big))
	}
	require.ErrorIs(t, a.Send(ended(), big), context.Canceled)
	sender := waits(t, func() error { return a.Send(t.Context(), big) })
	_, err := b.Recv(ended())
	require.NoError(t, err)
	require.NoError(t, <-sender)
}

func init() {
	role("conn echo", func(b bag, _ []string) {
		for {
			v, err := b.Conn.Recv(context.Background())
			if err == io.EOF {
				return
			}
			must(err)
			must(b.Conn.Send(context.Background(), v))
		}
	})
	role("conn send", func(b bag, args []string) {
		n := get(strconv.Atoi(args[0]))
		for i := uint64(0); ; i++ {
			must(b.Conn.Send(context.Background(), pattern(i, n)))
			say(strconv.FormatUint(i, 10))
		}
	})
	role("conn receive", func(b bag, args []string) {
		n := get(strconv.Atoi(args[0]))
		for i := uint64(0); ; i++ {
			if !bytes.Equal(get(b.Conn.Recv(context.Background())), pattern(i, n)) {
				panic("a wrong message")
			}
		}
	})
	role("hold an end", func(bag, []string) {
		say("on")
		heard("end")
	})
	role("gifts", func(b bag, _ []string) {
		for i := 0; ; i++ {
			q := get(ipc.NewQueue[int](1))
			must(q.TryPut(i))
			must(b.Gifts.Send(context.Background(), gift{i, q}))
			must(q.Close())
			say(strconv.Itoa(i))
		}
	})
	role("take gifts", func(b bag, _ []string) {
		for i := 0; ; i++ {
			g := get(b.Gifts.Recv(context.Background()))
			if get(g.Queue.TryGet()) != g.N || g.N != i {
				panic("a wrong gift")
			}
			must(g.Queue.Close())
		}
	})
	role("give queue", func(b bag, _ []string) {
		g := get(b.Gifts.Recv(context.Background()))
		must(g.Queue.Put(context.Background(), g.N+1))
	})
}

func TestPipeMessagesOfAllSizesBetweenProcesses(t *testing.T) { // CON-04, CON-07
	ctx := proctest.Within(t)
	a, b := newPipe[[]byte](t, true)
	m := start(t, "conn echo", bag{Conn: b}, "")
	require.NoError(t, b.Close())
	go func() {
		for i, n := range queueSizes {
			_ = a.Send(ctx, pattern(uint64(i), n))
		}
	}()
	for i, n := range queueSizes {
		v, err := a.Recv(ctx)
		require.NoError(t, err)
		require.Truef(t, bytes.Equal(pattern(uint64(i), n), v), "size %d, got %d", n, len(v))
	}
	require.NoError(t, a.Close())
	m.ends() // for it had the end
}

func TestPipeEndsWhenItsProcessIsKilled(t *testing.T) {
	ctx := proctest.Within(t)
	a, b := newPipe[[]byte](t, true)
	m, other := start(t, "hold an end", bag{Conn: b}, ""), start(t, "hold an end", bag{Conn: b}, "")
	require.NoError(t, b.Close())
	m.line()
	other.line()
	receiver := waits(t, func() error { _, err := a.Recv(ctx); return err })
	m.kill()
	require.Empty(t, receiver)
	other.kill()
	require.Equal(t, io.EOF, <-receiver)
	require.Equal(t, io.ErrClosedPipe, a.Send(ctx, nil))
}

func TestSignalsDoNotDisturbAPipe(t *testing.T) { // CON-25
	ctx := proctest.Within(t)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	a, b := newPipe[[]byte](t, true)
	m := start(t, "conn echo", bag{Conn: b}, "")
	require.NoError(t, b.Close())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			}
		}
	})
	want := pattern(1, 20<<20)
	for range 5 {
		require.NoError(t, a.Send(ctx, want))
		got, err := a.Recv(ctx)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
	close(stop)
	wg.Wait()
	require.NoError(t, a.Close())
	m.ends()
}

var sendSteps = []struct {
	step string
	sent bool
}{{"put: locked", false}, {"put: sent", false}, {"put: written", false}, {"put: published", true}, {"put: unlocked", true}}

func TestSenderKilledAtEachStep(t *testing.T) {
	for _, tc := range sendSteps {
		for _, n := range crashSizes {
			if tc.step == "put: sent" {
				continue // of gifts
			}
			t.Run(fmt.Sprintf("%s/bytes=%d", tc.step, n), func(t *testing.T) {
				ctx := proctest.Within(t)
				a, b := newPipe[[]byte](t, true)
				received := make(chan error, 1)
				count := uint64(0)
				go func() {
					for {
						v, err := a.Recv(ctx)
						if err != nil {
							received <- err
							return
						}
						if !bytes.Equal(v, pattern(count, n)) {
							received <- errors.New("a wrong message")
							return
						}
						count++
					}
				}()
				m := start(t, "conn send", bag{Conn: b}, tc.step+"#3", strconv.Itoa(n))
				require.NoError(t, b.Close())
				m.killed()
				require.Equal(t, io.EOF, <-received)
				want := uint64(2)
				if tc.sent {
					want = 3
				}
				require.Equal(t, want, count)
			})
		}
	}
}

func TestReceiverKilledAtEachStep(t *testing.T) {
	for _, tc := range getSteps {
		for _, n := range crashSizes {
			t.Run(fmt.Sprintf("%s/bytes=%d", tc.step, n), func(t *testing.T) {
				ctx := proctest.Within(t)
				a, b := newPipe[[]byte](t, true)
				sending := make(chan error, 1)
				go func() {
					var errs []error
					for i := range 5 {
						errs = append(errs, a.Send(ctx, pattern(uint64(i), n)))
					}
					sending <- errors.Join(errs...)
				}()
				m := start(t, "conn receive", bag{Conn: b}, tc.step+"#3", strconv.Itoa(n))
				m.killed()
				first := 2
				if tc.taken {
					first = 3
				}
				for i := first; i < 5; i++ {
					v, err := b.Recv(ctx)
					require.NoError(t, err)
					require.True(t, bytes.Equal(pattern(uint64(i), n), v))
				}
				require.NoError(t, <-sending)
				require.NoError(t, a.Send(ctx, nil))
				_, err := b.Recv(ctx)
				require.NoError(t, err)
				_, err = b.Recv(ended())
				require.ErrorIs(t, err, context.Canceled)
			})
		}
	}
}

func TestPipeTakesHandlesAlong(t *testing.T) { // CON-13, CON-14
	ctx := proctest.Within(t)
	a, b := newPipe[gift](t, true)
	m := start(t, "give queue", bag{Gifts: b}, "")
	require.NoError(t, b.Close())
	q := newQueue[int](t, 1)
	require.NoError(t, a.Send(ctx, gift{5, q}))
	v, err := q.Get(ctx)
	require.NoError(t, err)
	require.Equal(t, 6, v)
	m.ends()
	_, err = a.Recv(ctx)
	require.Equal(t, io.EOF, err)
}

func TestPipeOfHandlesWithinAProcess(t *testing.T) {
	ctx := proctest.Within(t)
	a, b := newPipe[[]*ipc.Queue[int]](t, true)
	q, r := newQueue[int](t, 1), newQueue[int](t, 1)
	require.NoError(t, a.Send(ctx, []*ipc.Queue[int]{q, r, q}))
	require.NoError(t, a.Send(ctx, nil))
	got, err := b.Recv(ctx)
	require.NoError(t, err)
	require.Len(t, got, 3)
	require.NoError(t, got[1].Put(ctx, 1))
	require.NoError(t, got[2].Put(ctx, 2))
	v, err := r.TryGet()
	require.NoError(t, err)
	require.Equal(t, 1, v)
	v, err = got[0].TryGet()
	require.NoError(t, err)
	require.Equal(t, 2, v)
	for _, g := range got {
		require.NoError(t, g.Close())
	}
	none, err := b.Recv(ctx)
	require.NoError(t, err)
	require.Empty(t, none)

	closed, err := ipc.NewQueue[int](1)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	require.ErrorIs(t, a.Send(ctx, []*ipc.Queue[int]{q, closed}), ipc.ErrClosed)
	_, err = b.Recv(ended())
	require.ErrorIs(t, err, context.Canceled)
}

func TestPipeTakesNoMoreDescriptorsThanTheSystem(t *testing.T) {
	a, b := newPipe[[]*ipc.Queue[int]](t, true)
	var all []*ipc.Queue[int]
	for range 254 {
		all = append(all, newQueue[int](t, 1))
	}
	require.ErrorContains(t, a.Send(t.Context(), all), "have 254 descriptors, and no more than 253 go along with one message")
	require.NoError(t, a.Send(t.Context(), all[:253]))
	got, err := b.Recv(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 253)
	for i, g := range got {
		require.NoError(t, g.Put(t.Context(), i))
		v, err := all[i].TryGet()
		require.NoError(t, err)
		require.Equal(t, i, v)
		require.NoError(t, g.Close())
	}
}

// The socket has room for fewer packets than the ring has slots.
func TestPipeWithManyHandlesWaiting(t *testing.T) {
	ctx := proctest.Within(t)
	a, b := newPipe[gift](t, true)
	q := newQueue[int](t, 1000)
	sent := 0
	for ; a.Send(ended(), gift{sent, q}) == nil; sent++ {
	}
	t.Logf("%d are buffered", sent)
	require.Greater(t, sent, 20)
	sender := waits(t, func() error { return a.Send(ctx, gift{sent, q}) })
	for i := range sent + 1 {
		g, err := b.Recv(ctx)
		require.NoError(t, err)
		require.Equal(t, i, g.N)
		require.NoError(t, g.Queue.Put(ctx, i))
		require.NoError(t, g.Queue.Close())
	}
	require.NoError(t, <-sender)
	require.Equal(t, sent+1, q.Len())
}

type letter struct {
	Conn *ipc.Conn[letter]
	Text string
}

func TestPipeThroughItself(t *testing.T) {
	ctx := proctest.Within(t)
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("own=%t", own), func(t *testing.T) {
			a, b := newPipe[letter](t, true)
			what := b
			if own {
				what = a
			}
			require.NoError(t, a.Send(ctx, letter{what, "first"}))
			require.NoError(t, what.Close())
			if !own { // it is nowhere but on its way to itself
				require.Error(t, func() error { _, err := b.Recv(ctx); return err }())
				return
			}
			_, err := b.Poll(ended())
			require.NoError(t, err)
			got, err := b.Recv(ctx)
			require.NoError(t, err)
			require.Equal(t, "first", got.Text)
			require.NoError(t, got.Conn.Send(ctx, letter{nil, "second"}))
			second, err := b.Recv(ctx)
			require.NoError(t, err)
			require.Equal(t, letter{nil, "second"}, second)
			_, err = b.Recv(ended())
			require.ErrorIs(t, err, context.Canceled)
			require.NoError(t, got.Conn.Close())
			_, err = b.Recv(ctx)
			require.Equal(t, io.EOF, err)
		})
	}
}

func TestSenderOfHandlesKilledAtEachStep(t *testing.T) {
	for _, tc := range sendSteps {
		t.Run(tc.step, func(t *testing.T) {
			ctx := proctest.Within(t)
			a, b := newPipe[gift](t, true)
			step := tc.step + "#6" // each gift has been put to once itself
			if tc.step == "put: sent" {
				step = tc.step + "#3"
			}
			m := start(t, "gifts", bag{Gifts: b}, step)
			m.killed()
			// Somebody else goes on, and what the dead one left in the socket does no harm.
			q := newQueue[int](t, 1)
			require.NoError(t, q.TryPut(77))
			require.NoError(t, b.Send(ctx, gift{77, q}))
			want := []int{0, 1}
			if tc.sent {
				want = append(want, 2)
			}
			for _, n := range append(want, 77) {
				g, err := a.Recv(ctx)
				require.NoError(t, err)
				require.Equal(t, n, g.N)
				v, err := g.Queue.TryGet()
				require.NoError(t, err)
				require.Equal(t, n, v)
				require.NoError(t, g.Queue.Close())
			}
			require.NoError(t, b.Close())
			_, err := a.Recv(ctx)
			require.Equal(t, io.EOF, err)
		})
	}
}

func TestReceiverOfHandlesKilledAtEachStep(t *testing.T) {
	for _, tc := range getSteps {
		t.Run(tc.step, func(t *testing.T) {
			ctx := proctest.Within(t)
			a, b := newPipe[gift](t, true)
			for i := range 5 {
				q, err := ipc.NewQueue[int](1)
				require.NoError(t, err)
				require.NoError(t, q.TryPut(i))
				require.NoError(t, a.Send(ctx, gift{i, q}))
				require.NoError(t, q.Close())
			}
			m := start(t, "take gifts", bag{Gifts: b}, tc.step+"#5") // each gift is taken from itself
			m.killed()
			first := 2
			if tc.taken {
				first = 3
			}
			for i := first; i < 5; i++ {
				g, err := b.Recv(ctx)
				require.NoError(t, err)
				require.Equal(t, i, g.N)
				v, err := g.Queue.TryGet()
				require.NoError(t, err)
				require.Equal(t, i, v)
				require.NoError(t, g.Queue.Close())
			}
			_, err := b.Recv(ended())
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

func init() {
	// Sends its own end through itself, and dies over it.
	role("send own", func(b bag, _ []string) {
		m := get(b.Self.Recv(context.Background()))
		must(b.Self.Send(context.Background(), letter{m.Conn, ""}))
	})
}

// The descriptor of an end that was left in the socket of the other must not keep it open.
func TestPipeEndsWhenItsOwnEndWasLeftBehind(t *testing.T) {
	for _, tc := range sendSteps {
		if tc.sent {
			continue
		}
		for _, waiting := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/waiting=%t", tc.step, waiting), func(t *testing.T) {
				ctx := proctest.Within(t)
				a, b := newPipe[letter](t, true)
				m := start(t, "send own", bag{Self: b}, tc.step)
				require.NoError(t, a.Send(ctx, letter{b, ""}))
				require.NoError(t, b.Close())
				if waiting {
					_, err := a.Recv(ctx)
					require.Equal(t, io.EOF, err)
				}
				m.killed()
				_, err := a.Recv(ctx)
				require.Equal(t, io.EOF, err)
			})
		}
	}
}

func init() {
	role("conn hammer", func(b bag, _ []string) {
		ctx := context.Background()
		must(connHammer(ctx, b.Conn, 100, func() (string, error) { return "", nil }))
	})
}

// connHammer has many goroutines send and receive at one end.
func connHammer(ctx context.Context, c *ipc.Conn[[]byte], first int, _ func() (string, error)) error {
	const goroutines, each = 8, 300
	errs := make(chan error, 2*goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				if err := c.Send(ctx, append([]byte(fmt.Sprintf("%d %d ", first+g, i)), pattern(uint64(i), i*i%9000)...)); err != nil {
					errs <- fmt.Errorf("send: %w", err)
					return
				}
			}
		})
		wg.Go(func() {
			last := map[string]int{}
			for range each {
				b, err := c.Recv(ctx)
				if err != nil {
					errs <- fmt.Errorf("receive: %w", err)
					return
				}
				f := bytes.SplitN(b, []byte(" "), 3)
				i, _ := strconv.Atoi(string(f[1]))
				if !bytes.Equal(f[2], pattern(uint64(i), i*i%9000)) {
					errs <- errors.New("a torn message")
					return
				}
				if seen, ok := last[string(f[0])]; ok && seen >= i {
					errs <- errors.New("out of order")
					return
				}
				last[string(f[0])] = i
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func TestPipeHammer(t *testing.T) {
	ctx := proctest.Within(t)
	a, b := newPipe[[]byte](t, true)
	m := start(t, "conn hammer", bag{Conn: b}, "")
	require.NoError(t, connHammer(ctx, a, 0, nil))
	m.ends()
	_, err := a.Recv(ended())
	require.ErrorIs(t, err, context.Canceled)
}

func init() {
	role("conn produce", func(b bag, args []string) {
		for i := 0; ; i++ {
			n := []int{0, 100, 500, 10_000, 300_000}[i%5]
			must(b.Conn.Send(context.Background(), append([]byte(fmt.Sprintf("%s %d ", args[0], i)), pattern(uint64(i), n)...)))
			if i == 0 {
				say("on")
			}
		}
	})
}

func TestPipeOfManyKilledSenders(t *testing.T) {
	ctx := proctest.Within(t)
	a, b := newPipe[[]byte](t, true)
	next := map[string]int{}
	received := make(chan error, 1)
	go func() {
		for {
			v, err := a.Recv(ctx)
			if err != nil {
				received <- err
				return
			}
			f := bytes.SplitN(v, []byte(" "), 3)
			i, _ := strconv.Atoi(string(f[1]))
			if next[string(f[0])] != i || !bytes.Equal(f[2], pattern(uint64(i), len(f[2]))) {
				received <- fmt.Errorf("sender %s: message %d where %d should be, or torn", f[0], i, next[string(f[0])])
				return
			}
			next[string(f[0])]++
		}
	}()
	killing(t, func(round int) {
		m := start(t, "conn produce", bag{Conn: b}, "", strconv.Itoa(round))
		m.line()
		time.Sleep(time.Duration(round%37) * 50 * time.Microsecond) // any moment
		m.kill()
		require.Empty(t, received)
	})
	require.NoError(t, b.Close())
	require.Equal(t, io.EOF, <-received)
}

func TestPipeSurvivesWhatIsSentOverItsSocket(t *testing.T) { // CON-26, CON-27
	ctx := proctest.Within(t)
	for name, litter := range map[string]func(fd int){
		"nothing":      func(fd int) { _, _ = unix.Write(fd, nil) },
		"one byte":     func(fd int) { _, _ = unix.Write(fd, []byte{1}) },
		"a packet":     func(fd int) { _, _ = unix.Write(fd, make([]byte, 33)) },
		"a large one":  func(fd int) { _, _ = unix.Write(fd, make([]byte, 60_000)) },
		"a future one": func(fd int) { _, _ = unix.Write(fd, append([]byte{200, 200, 200}, make([]byte, 30)...)) },
		"a descriptor": func(fd int) { must(unix.Sendmsg(fd, make([]byte, 33), unix.UnixRights(fd), nil, 0)) },
		"descriptors":  func(fd int) { must(unix.Sendmsg(fd, []byte{1}, unix.UnixRights(fd, fd, fd), nil, 0)) },
		"many of these": func(fd int) {
			for range 10 {
				_, _ = unix.Write(fd, nil)
				_, _ = unix.Write(fd, []byte{1, 2, 3})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(proctest.Descriptors())
			a, b := newPipe[gift](t, true)
			q := newQueue[int](t, 10)
			fds, err := a.Export()
			require.NoError(t, err)
			a.Exported()
			litter(fds[1])
			_, err = b.Recv(ended())
			require.ErrorIs(t, err, context.Canceled)
			litter(fds[1])
			for i := range 3 {
				require.NoError(t, a.Send(ctx, gift{i, q}))
				litter(fds[1])
			}
			for i := range 3 {
				g, err := b.Recv(ctx)
				require.NoError(t, err)
				require.Equal(t, i, g.N)
				require.NoError(t, g.Queue.Put(ctx, i))
				require.NoError(t, g.Queue.Close())
			}
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			require.NoError(t, a.Close())
			_, err = b.Recv(ctx)
			require.Equal(t, io.EOF, err)
			require.NoError(t, b.Close())
			require.NoError(t, q.Close())
			require.Equal(t, before, len(proctest.Descriptors()))
		})
	}
}

func TestPipeMessagesWithoutTheirDescriptors(t *testing.T) {
	ctx := proctest.Within(t)
	a, b := newPipe[gift](t, true)
	q := newQueue[int](t, 10)
	for i := range 3 {
		require.NoError(t, a.Send(ctx, gift{i, q}))
	}
	// Somebody takes the first two packets away.
	fds, err := b.Export()
	require.NoError(t, err)
	b.Exported()
	for range 2 {
		_, err = unix.Read(fds[1], make([]byte, 1))
		require.NoError(t, err)
	}
	for range 2 {
		_, err = b.Recv(ctx)
		require.EqualError(t, err, "ipc: receive: its descriptors did not come along")
	}
	g, err := b.Recv(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, g.N)
	require.NoError(t, g.Queue.Close())
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func TestNoConnOfAnotherObject(t *testing.T) { // CON-26
	a, _ := newPipe[int](t, true)
	q := newQueue[int](t, 1)
	err := decodeAs(t, a, q, 0)
	require.ErrorContains(t, err, "ipc: a Conn came with 1 descriptors, not 2")
	err = decodeAs(t, new(ipc.Queue[int]), a)
	require.ErrorContains(t, err, "ipc: a Queue came with 2 descriptors, not 1")
	for _, side := range [][]byte{nil, {2}, {0, 0}} {
		require.ErrorContains(t, decodeAs(t, new(ipc.Conn[int]), a, side...), "it has a side of")
	}
	require.ErrorContains(t, decodeAs(t, new(ipc.Conn[string]), a, 0), "it was made for another type")
	require.Error(t, new(ipc.Conn[int]).GobDecode([]byte("short")))
	require.ErrorIs(t, new(ipc.Conn[int]).GobDecode(make([]byte, 17)), executor.ErrNotPortable)
}

// A nil *Conn in a slice was a panic of the encoder, and another nil handle an error.
func TestNilConnAmongOthers(t *testing.T) {
	c, d := newPipe[[]*ipc.Conn[int]](t, true)
	x, _ := newPipe[int](t, true)
	require.ErrorContains(t, c.Send(t.Context(), []*ipc.Conn[int]{x, nil}), "ipc: a nil *Conn cannot be encoded as an element: leave it out")
	require.NoError(t, c.Send(t.Context(), nil))
	_, err := d.Recv(t.Context())
	require.NoError(t, err)
}
