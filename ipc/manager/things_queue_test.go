package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

// item takes an item, and returns its text.
func item(ctx context.Context, q thing, by *client, op uint8) (string, error) {
	r, err := ask(ctx, q, by, op)
	if err != nil {
		return "", err
	}
	d := r.datum()
	return string(d.bytes), r.end()
}

func TestQueueThing(t *testing.T) { // MGR-09, MGR-18
	synctest.Test(t, func(t *testing.T) {
		k := new(countKeeper)
		_, err := newQueueThing(k, 0)
		require.EqualError(t, err, "the capacity is 0, and must be at least 1")
		q, err := newQueueThing(k, 2)
		require.NoError(t, err)
		a, b := new(client), new(client)
		_, err = item(bg, q, a, opTryGet)
		require.ErrorIs(t, err, ipc.ErrEmpty)
		_, err = item(ended(), q, a, opGet)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, tell(ended(), q, a, opPut, data("1", 1)))
		require.NoError(t, tell(bg, q, a, opTryPut, data("2", 2)))
		require.ErrorIs(t, tell(bg, q, a, opTryPut, data("3", 3)), ipc.ErrFull)
		require.ErrorIs(t, tell(ended(), q, a, opPut, data("3", 3)), context.Canceled)
		require.Equal(t, []uint64{1, 2}, k.held())

		// Who waits for room puts in the order in which he came; who gave up puts nothing.
		ctx, cancel := context.WithCancel(bg)
		p3 := begun(func() error { return tell(bg, q, a, opPut, data("3", 3)) })
		quits := begun(func() error { return tell(ctx, q, b, opPut, data("x", 9)) })
		p4 := begun(func() error { return tell(bg, q, b, opPut, data("4", 4)) })
		cancel()
		require.ErrorIs(t, came(t, quits), context.Canceled)
		waits(t, p3, p4)
		require.Equal(t, 2, askInt(t, q, a, opQueueLen))
		got, err := item(ended(), q, a, opGet)
		require.NoError(t, err)
		require.Equal(t, "1", got)
		require.NoError(t, came(t, p3))
		waits(t, p4)
		require.Equal(t, []uint64{2, 3}, k.held())
		for _, want := range []string{"2", "3", "4"} {
			got, err := item(bg, q, b, opTryGet)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.NoError(t, came(t, p4))
		require.Empty(t, k.held())

		// Who waits for an item gets one in the order in which he came.
		texts := make(chan string, 2)
		take := func(ctx context.Context, by *client) <-chan error {
			return begun(func() error {
				got, err := item(ctx, q, by, opGet)
				if err == nil {
					texts <- got
				}
				return err
			})
		}
		ctx, cancel = context.WithCancel(bg)
		quits = take(ctx, a)
		g1 := take(bg, a)
		g2 := take(bg, b)
		cancel()
		require.ErrorIs(t, came(t, quits), context.Canceled)
		require.NoError(t, tell(bg, q, a, opPut, data("5", 5)))
		require.NoError(t, came(t, g1))
		waits(t, g2)
		require.NoError(t, tell(bg, q, a, opTryPut, data("6", 6)))
		require.NoError(t, came(t, g2))
		require.Equal(t, "56", <-texts+<-texts)
		require.Zero(t, askInt(t, q, a, opQueueLen))
		require.Empty(t, k.held())
	})
}

func TestQueueThingShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := new(countKeeper)
		q, err := newQueueThing(k, 1)
		require.NoError(t, err)
		a := new(client)
		g := begun(func() error { _, err := item(bg, q, a, opGet); return err })
		require.NoError(t, tell(bg, q, a, opQueueShutdown))
		require.ErrorIs(t, came(t, g), io.EOF)

		q, err = newQueueThing(k, 1)
		require.NoError(t, err)
		require.NoError(t, tell(bg, q, a, opPut, data("1", 1)))
		p := begun(func() error { return tell(bg, q, a, opPut, data("2", 2)) })
		require.NoError(t, tell(bg, q, a, opQueueShutdown))
		require.NoError(t, tell(bg, q, a, opQueueShutdown))
		require.ErrorIs(t, came(t, p), io.ErrClosedPipe)
		require.ErrorIs(t, tell(bg, q, a, opPut, data("2", 2)), io.ErrClosedPipe)
		require.ErrorIs(t, tell(bg, q, a, opTryPut, data("2", 2)), io.ErrClosedPipe)
		got, err := item(bg, q, a, opGet)
		require.NoError(t, err)
		require.Equal(t, "1", got, "what is left is taken")
		_, err = item(bg, q, a, opGet)
		require.ErrorIs(t, err, io.EOF)
		_, err = item(bg, q, a, opTryGet)
		require.ErrorIs(t, err, io.EOF)
		require.Empty(t, k.held())
	})
}

func TestQueueThingJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := newQueueThing(new(countKeeper), 5)
		require.NoError(t, err)
		a, b := new(client), new(client)
		require.NoError(t, tell(ended(), q, a, opJoin))
		require.EqualError(t, tell(bg, q, a, opTaskDone), "all items that were put are done already")
		for range 2 {
			require.NoError(t, tell(bg, q, a, opPut, data("x")))
		}
		require.ErrorIs(t, tell(ended(), q, a, opJoin), context.Canceled)
		ctx, cancel := context.WithCancel(bg)
		quits := begun(func() error { return tell(ctx, q, a, opJoin) })
		goes := begun(func() error { return tell(bg, q, b, opJoin) })
		j := begun(func() error { return tell(bg, q, a, opJoin) })
		cancel()
		require.ErrorIs(t, came(t, quits), context.Canceled)
		leaves(b, nil, q)
		require.ErrorIs(t, came(t, goes), ipc.ErrClosed)
		require.NoError(t, tell(ended(), q, a, opTaskDone))
		waits(t, j)
		_, err = item(bg, q, a, opGet) // taking is not doing
		require.NoError(t, err)
		waits(t, j)
		require.NoError(t, tell(bg, q, a, opTaskDone))
		require.NoError(t, came(t, j))
		require.Error(t, tell(bg, q, a, opTaskDone))
	})
}

func TestQueueThingClientGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := new(countKeeper)
		q, err := newQueueThing(k, 1)
		require.NoError(t, err)
		a, b := new(client), new(client)
		g := begun(func() error { _, err := item(bg, q, a, opGet); return err })
		other := begun(func() error { _, err := item(bg, q, b, opGet); return err })
		a.left.Store(true) // the queue has not been told yet, and gives it nothing
		require.NoError(t, tell(bg, q, b, opPut, data("1")))
		require.ErrorIs(t, came(t, g), ipc.ErrClosed)
		require.NoError(t, came(t, other))
		leaves(a, nil, q)

		a = new(client)
		g = begun(func() error { _, err := item(bg, q, a, opGet); return err })
		leaves(a, nil, q)
		require.ErrorIs(t, came(t, g), ipc.ErrClosed)
		require.NoError(t, tell(bg, q, b, opPut, data("1")), "what is put stays")
		_, err = item(bg, q, a, opGet)
		require.ErrorIs(t, err, ipc.ErrClosed)
		require.ErrorIs(t, tell(bg, q, a, opTryPut, data("1")), ipc.ErrClosed)

		a = new(client)
		p := begun(func() error { return tell(bg, q, a, opPut, data("2", 2)) })
		last := begun(func() error { return tell(bg, q, b, opPut, data("3", 3)) })
		leaves(a, nil, q)
		require.ErrorIs(t, came(t, p), ipc.ErrClosed)
		waits(t, last)
		for _, want := range []string{"1", "3"} {
			got, err := item(bg, q, b, opGet)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.NoError(t, came(t, last))
		require.NoError(t, tell(bg, q, b, opPut, data("4", 4)))
		require.Len(t, q.drop(), 1)
	})
}

// Who puts and who gets give up at random, and go. Nothing is lost or there twice, and each
// getter sees what one putter put in the order in which that was put.
func TestQueueThingStress(t *testing.T) {
	const putters, getters = 4, 4
	k := new(countKeeper)
	q, err := newQueueThing(k, 3)
	require.NoError(t, err)
	stop := time.Now().Add(stressFor())
	var put [putters]int
	var got [getters][]string
	var failed atomic.Int64
	var wg, puts sync.WaitGroup
	for i := range putters {
		puts.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 0))
			for me := new(client); time.Now().Before(stop); {
				ctx, cancel := shortly(r)
				ctx, cancel2 := context.WithTimeout(ctx, 10*time.Millisecond)
				if r.IntN(20) == 0 {
					old, mine := me, cancel2
					time.AfterFunc(time.Duration(r.IntN(100))*time.Microsecond, func() { leaves(old, mine, q) })
				}
				switch err := tell(ctx, q, me, opPut, data(fmt.Sprintf("%d/%d", i, put[i]), 1)); {
				case err == nil:
					put[i]++
				case ctx.Err() != nil && errors.Is(err, ctx.Err()):
					failed.Add(1)
				case errors.Is(err, ipc.ErrClosed):
					me = new(client)
				default:
					t.Error(err)
				}
				cancel2()
				cancel()
			}
		})
	}
	for i := range getters {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 0))
			me := new(client)
			for {
				ctx, cancel := shortly(r)
				var text string
				var err error
				if r.IntN(3) == 0 {
					text, err = item(ctx, q, me, opTryGet)
				} else {
					text, err = item(ctx, q, me, opGet)
				}
				done := ctx.Err()
				cancel()
				switch {
				case err == nil:
					got[i] = append(got[i], text)
				case errors.Is(err, io.EOF):
					return
				case errors.Is(err, ipc.ErrEmpty), done != nil && errors.Is(err, done):
				default:
					t.Error(err)
				}
			}
		})
	}
	puts.Wait()
	require.NoError(t, tell(bg, q, new(client), opQueueShutdown))
	wg.Wait()
	total := 0
	for i := range putters {
		total += put[i]
	}
	all := map[string]bool{}
	for i := range getters {
		last := [putters]int{-1, -1, -1, -1}
		for _, text := range got[i] {
			require.False(t, all[text], "%s is there twice", text)
			all[text] = true
			from, number, _ := strings.Cut(text, "/")
			p, _ := strconv.Atoi(from)
			n, _ := strconv.Atoi(number)
			require.Greater(t, n, last[p])
			last[p] = n
		}
	}
	t.Logf("%d put, %d given up", total, failed.Load())
	require.Len(t, all, total)
	require.Empty(t, k.held())
	require.Zero(t, q.getters.n+q.putters.n)
}
