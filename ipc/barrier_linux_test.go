package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

func newBarrier(tb testing.TB, parties int) *ipc.Barrier {
	b, err := ipc.NewBarrier(parties)
	require.NoError(tb, err)
	tb.Cleanup(func() { b.Close() })
	return b
}

func init() {
	role("party", func(c cast, args []string) {
		for range get(strconv.Atoi(args[0])) {
			fmt.Println(get(c.Barrier.Wait(context.Background())))
		}
	})
	role("party that waits", func(c cast, _ []string) {
		say("ready")
		_, err := c.Barrier.Wait(context.Background())
		fmt.Println(errors.Is(err, ipc.ErrBrokenBarrier))
	})
}

func TestBarrierPasses(t *testing.T) { // BAR-01, BAR-02, BAR-09
	const parties, passes = 5, 1000
	b := newBarrier(t, parties)
	var ps []*process
	for range parties - 1 {
		ps = append(ps, start(t, "party", cast{Barrier: b}, "", strconv.Itoa(passes)))
	}
	var mine []int
	for range passes {
		i, err := b.Wait(proctest.Within(t))
		require.NoError(t, err)
		mine = append(mine, i)
	}
	all := [][]int{mine}
	for _, p := range ps {
		var theirs []int
		for range passes {
			var i int
			_, err := fmt.Fscanln(p.out, &i)
			require.NoError(t, err)
			theirs = append(theirs, i)
		}
		p.ends()
		all = append(all, theirs)
	}
	for pass := range passes {
		var indexes []int
		for _, of := range all {
			indexes = append(indexes, of[pass])
		}
		slices.Sort(indexes)
		require.Equal(t, []int{0, 1, 2, 3, 4}, indexes)
	}
	require.Zero(t, b.Waiting())
	require.Equal(t, parties, b.Parties())
}

// waiting waits until n parties wait.
func waiting(t *testing.T, b *ipc.Barrier, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return b.Waiting() == n }, proctestMinute, tick)
}

func TestBarrierBroken(t *testing.T) { // BAR-04, BAR-05, BAR-06, BAR-07
	for name, breaking := range map[string]func(t *testing.T, b *ipc.Barrier, p *process) error{
		"abort": func(_ *testing.T, b *ipc.Barrier, _ *process) error { return b.Abort() },
		"reset": func(_ *testing.T, b *ipc.Barrier, _ *process) error { return b.Reset() },
		"ctx": func(t *testing.T, b *ipc.Barrier, _ *process) error {
			_, err := b.Wait(soon(t))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
			return nil
		},
		"poll": func(t *testing.T, b *ipc.Barrier, _ *process) error {
			_, err := b.Wait(ended())
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
			return nil
		},
		"death": func(_ *testing.T, _ *ipc.Barrier, p *process) error { p.kill(); return nil },
		"close": func(t *testing.T, b *ipc.Barrier, _ *process) error {
			other := again(t, b)
			done := make(chan error, 1)
			go func() {
				_, err := other.Wait(proctest.Within(t))
				done <- err
			}()
			waiting(t, b, 3)
			other.Close()
			require.ErrorIs(t, <-done, ipc.ErrClosed)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBarrier(t, 4)
			p := start(t, "party that waits", cast{Barrier: b}, "")
			p.hear("ready")
			q := start(t, "party that waits", cast{Barrier: b}, "")
			q.hear("ready")
			waiting(t, b, 2)
			require.NoError(t, breaking(t, b, p))
			q.hear("true")
			q.ends()
			if name != "death" {
				p.hear("true")
				p.ends()
			}
			if name != "reset" {
				_, err := b.Wait(t.Context())
				require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
				require.NoError(t, b.Reset())
			}
			passes(t, b)
		})
	}
}

// passes has all parties pass.
func passes(t *testing.T, b *ipc.Barrier) {
	t.Helper()
	var all sync.WaitGroup
	for range b.Parties() {
		all.Go(func() {
			if _, err := b.Wait(proctest.Within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Zero(t, b.Waiting())
}

// TestBarrierDeathNobodySaw: who dies while nobody else waits has broken it all the same.
func TestBarrierDeathNobodySaw(t *testing.T) {
	b := newBarrier(t, 2)
	p := start(t, "party that waits", cast{Barrier: b}, "")
	p.hear("ready")
	waiting(t, b, 1)
	p.kill()
	_, err := b.Wait(t.Context())
	require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
}

func TestBarrierOfOne(t *testing.T) { // BAR-08
	b := newBarrier(t, 1)
	for range 3 {
		i, err := b.Wait(ended())
		require.NoError(t, err)
		require.Zero(t, i)
	}
	for _, n := range []int{0, -1} {
		_, err := ipc.NewBarrier(n)
		require.ErrorContains(t, err, fmt.Sprintf("parties is %d", n))
	}
}
