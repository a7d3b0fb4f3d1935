package ipc_test

import (
	"context"
	"testing"
	"time"

	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

func newRLock(tb testing.TB) *ipc.RLock {
	l, err := ipc.NewRLock()
	require.NoError(tb, err)
	tb.Cleanup(func() { l.Close() })
	return l
}

func TestRLock(t *testing.T) { // LCK-03
	l := newRLock(t)
	require.ErrorIs(t, l.Unlock(), ipc.ErrNotHeld)
	ctx, err := l.Lock(t.Context())
	require.NoError(t, err)
	type key struct{}
	for range 3 {
		again, err := l.Lock(context.WithValue(ctx, key{}, "b"))
		require.NoError(t, err)
		require.Equal(t, "b", again.Value(key{}))
	}
	require.Equal(t, "ipc.RLock(held by this process)", l.String())

	outside := soon(t)
	back, err := l.Lock(outside)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Same(t, outside, back)

	for range 4 {
		_, err := l.Lock(outside)
		require.Error(t, err)
		require.NoError(t, l.Unlock())
	}
	require.ErrorIs(t, l.Unlock(), ipc.ErrNotHeld)
	require.Equal(t, "ipc.RLock(free)", l.String())

	_, err = l.Lock(t.Context())
	require.NoError(t, err)
	late, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = l.Lock(late) // owns nothing any more
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, l.Unlock())
}

func TestRLockOwnersOfTwoLocks(t *testing.T) {
	l, m := newRLock(t), newRLock(t)
	ctx, err := l.Lock(t.Context())
	require.NoError(t, err)
	ctx, err = m.Lock(ctx)
	require.NoError(t, err)
	for range 3 {
		_, err = l.Lock(ctx)
		require.NoError(t, err)
		require.NoError(t, l.Unlock())
	}
	require.NoError(t, m.Unlock())
	require.NoError(t, l.Unlock())
}

func init() {
	role("rhold", func(c cast, _ []string) {
		ctx := get(c.RLock.Lock(context.Background()))
		get(c.RLock.Lock(ctx))
		say("held")
		heard("let go")
		must(c.RLock.Unlock())
		must(c.RLock.Unlock())
	})
}

func TestRLockHolderDies(t *testing.T) {
	l := newRLock(t)
	p := start(t, "rhold", cast{RLock: l}, "")
	p.hear("held")
	require.ErrorIs(t, l.Unlock(), ipc.ErrNotHeld)
	p.kill()
	ctx, err := l.Lock(t.Context())
	require.ErrorIs(t, err, ipc.ErrOwnerDied)
	require.Same(t, t.Context(), ctx)
	ctx, err = l.Recover(t.Context())
	require.NoError(t, err)
	_, err = l.Lock(ctx)
	require.NoError(t, err)
	require.NoError(t, l.Unlock())
	require.NoError(t, l.Unlock())
	require.ErrorIs(t, l.Unlock(), ipc.ErrNotHeld)

	q := start(t, "rhold", cast{RLock: l}, "")
	q.hear("held")
	q.tell("let go")
	q.ends()
	_, err = l.Lock(t.Context())
	require.NoError(t, err)
}
