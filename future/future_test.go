package future_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/future"
)

// at returns a promise whose future is in state s; a finished one has the value 7.
func at(s future.State) *future.Promise[int] {
	p := future.NewPromise[int]()
	switch s {
	case future.Pending:
	case future.Running:
		p.Start()
	case future.Cancelled:
		p.Future().Cancel()
	case future.Finished:
		_ = p.Resolve(7)
	}
	return p
}

var states = []future.State{future.Pending, future.Running, future.Cancelled, future.Finished}

// FUT-15, FUT-16, FUT-17
func TestQueries(t *testing.T) {
	for _, s := range states {
		t.Run(s.String(), func(t *testing.T) {
			f := at(s).Future()
			done := s == future.Cancelled || s == future.Finished
			require.Equal(t, s, f.State())
			require.Equal(t, done, f.IsDone())
			require.Equal(t, s == future.Running, f.IsRunning())
			require.Equal(t, s == future.Cancelled, f.IsCancelled())
			select {
			case <-f.Done():
				require.True(t, done)
			default:
				require.False(t, done)
			}
		})
	}
	failed := future.Rejected[int](errCall)
	require.True(t, failed.IsDone())
	require.False(t, failed.IsCancelled())
	require.Equal(t, future.Finished, failed.State())
}

// FUT-11, FUT-12, FUT-13, FUT-14
func TestCancel(t *testing.T) {
	for _, tt := range []struct {
		from, to future.State
		ok       bool
	}{
		{future.Pending, future.Cancelled, true},
		{future.Running, future.Running, false},
		{future.Cancelled, future.Cancelled, true},
		{future.Finished, future.Finished, false},
	} {
		t.Run(tt.from.String(), func(t *testing.T) {
			f := at(tt.from).Future()
			for range 2 {
				require.Equal(t, tt.ok, f.Cancel())
				require.Equal(t, tt.to, f.State())
			}
		})
	}
	failed := future.Rejected[int](errCall)
	require.False(t, failed.Cancel())
	require.Equal(t, errCall, failed.Exception(t.Context()))
}

// FUT-31: a promise learns by Start whether it may run.
func TestStart(t *testing.T) {
	for _, s := range states {
		t.Run(s.String(), func(t *testing.T) {
			p := at(s)
			require.Equal(t, s == future.Pending, p.Start())
			require.False(t, p.Start())
			if s != future.Pending {
				require.Equal(t, s, p.Future().State())
			}
		})
	}
}

// FUT-18, FUT-19, FUT-20, FUT-23: what a poll says in each state.
func TestPoll(t *testing.T) {
	for _, s := range []future.State{future.Pending, future.Running} {
		f := at(s).Future()
		v, err := f.Result(ended())
		require.Zero(t, v)
		for _, err := range []error{err, f.Exception(ended())} {
			require.ErrorIs(t, err, future.ErrNotDone)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, future.ErrCancelled)
			require.ErrorContains(t, err, s.String())
		}
		require.Equal(t, s, f.State(), "the future is untouched")
	}
	for range 1000 { // a select between a value and an ended ctx would pick at random
		v, err := future.Resolved(7).Result(ended())
		require.NoError(t, err)
		require.Equal(t, 7, v)
		require.NoError(t, future.Resolved(7).Exception(ended()))

		v, err = future.Rejected[int](errCall).Result(ended())
		require.True(t, err == errCall, "the very error")
		require.Zero(t, v)
		require.Equal(t, errCall, future.Rejected[int](errCall).Exception(ended()))

		f := at(future.Cancelled).Future()
		_, err = f.Result(ended())
		require.ErrorIs(t, err, future.ErrCancelled)
		require.NotErrorIs(t, err, future.ErrNotDone)
		require.ErrorIs(t, f.Exception(ended()), future.ErrCancelled)
	}
}

// FUT-18: a wait that timed out is told from a call that timed out.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := future.NewPromise[int]()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errCause)
		defer cancel()
		begin := time.Now()
		_, err := p.Future().Result(ctx)
		require.Equal(t, time.Minute, time.Since(begin))
		require.ErrorIs(t, err, future.ErrNotDone)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errCause, "the cause is kept")

		require.NoError(t, p.Reject(context.DeadlineExceeded))
		_, err = p.Future().Result(t.Context())
		require.True(t, err == context.DeadlineExceeded)
		require.NotErrorIs(t, err, future.ErrNotDone)
	})
}

// FUT-21, FUT-22, FUT-24: whoever waits wakes, however the future is done.
func TestWaitersWake(t *testing.T) {
	ways := map[string]struct {
		end  func(*future.Promise[int])
		v    int
		want error
	}{
		"value":     {func(p *future.Promise[int]) { _ = p.Resolve(7) }, 7, nil},
		"error":     {func(p *future.Promise[int]) { _ = p.Reject(errCall) }, 0, errCall},
		"cancel":    {func(p *future.Promise[int]) { p.Future().Cancel() }, 0, future.ErrCancelled},
		"interrupt": {func(p *future.Promise[int]) { p.Future().Interrupt(errCause) }, 0, errCause},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := future.NewPromise[int]()
				f := p.Future()
				var waiters sync.WaitGroup
				for range 5 {
					waiters.Go(func() {
						v, err := f.Result(t.Context())
						if v != way.v || !errors.Is(err, way.want) {
							t.Errorf("Result = %d, %v, want %d, %v", v, err, way.v, way.want)
						}
					})
					waiters.Go(func() {
						if err := f.Exception(t.Context()); !errors.Is(err, way.want) {
							t.Errorf("Exception = %v, want %v", err, way.want)
						}
					})
					waiters.Go(func() { <-f.Done() })
				}
				synctest.Wait() // all wait
				require.False(t, f.IsDone())
				way.end(p)
				waiters.Wait()
			})
		})
	}
}

func TestDoneIsOneChannel(t *testing.T) {
	p := future.NewPromise[int]()
	require.Equal(t, p.Future().Done(), p.Future().Done())
	early := p.Future().Done()
	require.NoError(t, p.Resolve(1))
	<-early
	<-p.Future().Done()
}

func TestInterruptOfPending(t *testing.T) {
	f := future.NewPromise[int]().Future()
	require.True(t, f.Interrupt(errCause))
	require.True(t, f.IsCancelled())
	err := f.Exception(t.Context())
	require.ErrorIs(t, err, future.ErrCancelled)
	require.ErrorIs(t, err, errCause)
	require.False(t, f.Interrupt(errCall), "done")
	require.NotErrorIs(t, f.Exception(t.Context()), errCall)

	f = future.NewPromise[int]().Future()
	require.True(t, f.Interrupt(nil))
	require.ErrorIs(t, f.Exception(t.Context()), context.Canceled)
}

func TestInterruptOfDone(t *testing.T) {
	p := future.NewPromise[int]()
	p.OnInterrupt(func(error) { t.Error("a finished call was interrupted") })
	require.NoError(t, p.Resolve(1))
	require.False(t, p.Future().Interrupt(errCause))
	p.OnInterrupt(func(error) { t.Error("a finished call was interrupted") })
	require.NoError(t, p.Future().Exception(t.Context()))
}

// Of two Interrupts of a pending future one has cancelled it.
func TestOneInterruptWins(t *testing.T) {
	for range 2000 {
		f := future.NewPromise[int]().Future()
		var won [2]bool
		var both sync.WaitGroup
		for i := range won {
			both.Go(func() { won[i] = f.Interrupt(errCause) })
		}
		both.Wait()
		require.NotEqual(t, won[0], won[1])
	}
}

// nothing is an error without a word.
type nothing struct{}

func (*nothing) Error() string { return "" }

// FUT-28: an error that looks empty is an error; a zero value is none.
func TestEmptyError(t *testing.T) {
	for name, empty := range map[string]error{
		"no text":     errors.New(""),
		"nil pointer": (*nothing)(nil),
	} {
		f := future.Rejected[int](empty)
		_, err := f.Result(t.Context())
		require.True(t, err == empty, name)
		_, _, err = future.Wait(t.Context(), future.FirstException, f, at(future.Pending).Future())
		require.NoError(t, err, name)
		_, err = future.All(t.Context(), f)
		require.True(t, err == empty, name)
	}
	v, err := future.Resolved[error](nil).Result(t.Context())
	require.NoError(t, err)
	require.NoError(t, v)
}

// FUT-09
func TestString(t *testing.T) {
	for _, tt := range []struct {
		f    fmt.Stringer
		want string
	}{
		{at(future.Pending).Future(), "Future[int](pending)"},
		{at(future.Running).Future(), "Future[int](running)"},
		{at(future.Cancelled).Future(), "Future[int](cancelled)"},
		{at(future.Finished).Future(), "Future[int](finished, returned int)"},
		{future.Rejected[string](io.EOF), "Future[string](finished, failed with *errors.errorString)"},
		{future.Resolved[any]("x"), "Future[interface {}](finished, returned string)"},
		{future.Resolved[error](nil), "Future[error](finished, returned <nil>)"},
		{future.Cancelled, "cancelled"},
		{future.State(9), "State(9)"},
		{future.FirstCompleted, "FirstCompleted"},
		{future.FirstException, "FirstException"},
		{future.AllCompleted, "AllCompleted"},
		{future.Until(9), "Until(9)"},
	} {
		require.Equal(t, tt.want, tt.f.String())
	}
}

// FUT-27: everybody sees the same outcome of a done future, and no state that it was
// never in. State once took two looks, and a future that was cancelled between them
// was called finished.
func TestSnapshot(t *testing.T) {
	want := map[string][]future.State{
		"value":  {future.Pending, future.Running, future.Finished},
		"cancel": {future.Pending, future.Cancelled},
	}
	for name, seq := range want {
		t.Run(name, func(t *testing.T) {
			for range 2000 {
				p := future.NewPromise[int]()
				f := p.Future()
				var all sync.WaitGroup
				for range 2 {
					all.Go(func() {
						for i := 0; i < len(seq)-1; {
							s := f.State()
							for i < len(seq) && seq[i] != s {
								i++
							}
							if i == len(seq) {
								t.Errorf("saw %v, or saw it late", s)
								return
							}
						}
						v, err := f.Result(ended())
						switch name {
						case "value":
							if v != 7 || err != nil || f.IsCancelled() || !f.IsDone() || f.IsRunning() {
								t.Errorf("saw %d, %v, %v", v, err, f)
							}
						case "cancel":
							if v != 0 || !errors.Is(err, future.ErrCancelled) || !f.IsCancelled() || !f.IsDone() {
								t.Errorf("saw %d, %v, %v", v, err, f)
							}
						}
					})
				}
				if name == "cancel" {
					f.Cancel()
				} else {
					p.Start()
					_ = p.Resolve(7)
				}
				all.Wait()
			}
		})
	}
}

// A wait that times out leaves nothing on the future.
func TestResultLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := future.NewPromise[int]().Future()
		wait := func(n int) {
			for range n {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := f.Result(ctx)
				cancel()
				if !errors.Is(err, future.ErrNotDone) {
					t.Fatal(err)
				}
			}
		}
		wait(100)
		require.Less(t, growth(func() { wait(10_000) }), int64(256<<10))
		require.False(t, f.IsDone())
	})
}
