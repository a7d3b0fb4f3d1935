package manager

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

// A countKeeper counts the holds of objects.
type countKeeper struct {
	mu    sync.Mutex
	holds map[uint64]int
}

func (k *countKeeper) keep(d datum) bool { k.add(d, 1); return true }
func (k *countKeeper) release(d datum)   { k.add(d, -1) }

func (k *countKeeper) add(d datum, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holds == nil {
		k.holds = make(map[uint64]int)
	}
	for _, r := range d.refs {
		if k.holds[r] += n; k.holds[r] == 0 {
			delete(k.holds, r)
		}
		if k.holds[r] < 0 {
			panic("released too often")
		}
	}
}

func (k *countKeeper) held() []uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []uint64
	for r, n := range maps.All(k.holds) {
		for range n {
			all = append(all, r)
		}
	}
	slices.Sort(all)
	return all
}

// data returns a datum; one with refs names those objects.
func data(text string, refs ...uint64) datum { return datum{bytes: []byte(text), refs: refs} }

// operands returns what a client writes.
func operandsOf(operands []any) *writer {
	w := new(writer)
	for _, o := range operands {
		switch o := o.(type) {
		case int:
			w.int(o)
		case uint64:
			w.uint(o)
		case bool:
			w.bool(o)
		case string:
			w.text(o)
		case datum:
			w.datum(o)
		}
	}
	return w
}

// ask has t carry out an operation, as a server does.
func ask(ctx context.Context, t thing, by *client, op uint8, operands ...any) (*reader, error) {
	w := operandsOf(operands)
	out := new(writer)
	err := t.do(firstCtx, by, op, &reader{b: w.b}, out)
	if errors.Is(err, firstCtx.Err()) {
		out = new(writer)
		err = t.do(ctx, by, op, &reader{b: w.b}, out)
	}
	return &reader{b: out.b}, err
}

// tell is ask for an operation without a result.
func tell(ctx context.Context, t thing, by *client, op uint8, operands ...any) error {
	_, err := ask(ctx, t, by, op, operands...)
	return err
}

// askBool and askInt are ask for an operation with such a result.
func askBool(t testing.TB, to thing, by *client, op uint8, operands ...any) bool {
	t.Helper()
	r, err := ask(context.Background(), to, by, op, operands...)
	require.NoError(t, err)
	x := r.bool()
	require.NoError(t, r.end())
	return x
}

func askInt(t testing.TB, to thing, by *client, op uint8, operands ...any) int {
	t.Helper()
	r, err := ask(context.Background(), to, by, op, operands...)
	require.NoError(t, err)
	x := r.int()
	require.NoError(t, r.end())
	return x
}

// leaves has a client go, as a server has it when its connection ends.
func leaves(by *client, cancel context.CancelFunc, all ...thing) {
	by.left.Store(true)
	if cancel != nil {
		cancel()
	}
	for _, t := range all {
		t.gone(by)
	}
}

// begun calls fn in a goroutine of its own, and waits until it waits.
func begun(fn func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- fn() }()
	synctest.Wait()
	return c
}

// waits fails unless nothing has come.
func waits(t testing.TB, cs ...<-chan error) {
	t.Helper()
	synctest.Wait()
	for i, c := range cs {
		select {
		case err := <-c:
			t.Fatalf("call %d does not wait: %v", i, err)
		default:
		}
	}
}

// came returns what has come, and fails if nothing has.
func came(t testing.TB, c <-chan error) error {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-c:
		return err
	default:
		t.Fatal("the call still waits")
		return nil
	}
}

// ended returns a ctx that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// stressFor is how long a stress test runs.
func stressFor() time.Duration {
	if ms, err := strconv.Atoi(os.Getenv("STRESS_MS")); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	return 400 * time.Millisecond
}

// shortly returns a ctx that ends soon, at once, or not at all.
func shortly(r *rand.Rand) (context.Context, context.CancelFunc) {
	switch r.IntN(4) {
	case 0:
		return context.WithCancel(context.Background())
	case 1:
		return ended(), func() {}
	default:
		return context.WithTimeout(context.Background(), time.Duration(r.IntN(300))*time.Microsecond)
	}
}

func TestThingsRefuseWhatNobodySends(t *testing.T) {
	k := new(countKeeper)
	all := map[string]thing{}
	for name, kind := range map[string]uint8{
		"dict": kindDict, "list": kindList, "namespace": kindNamespace, "lock": kindLock, "rlock": kindRLock, "event": kindEvent,
	} {
		made, err := newThing(kind, new(reader), k, nil)
		require.NoError(t, err)
		all[name] = made
		_, err = newThing(kind, &reader{b: []byte{0}}, k, nil)
		require.ErrorIs(t, err, errBadRequest, name)
	}
	find := func(id uint64) (thing, bool) { return all["lock"], id == 7 }
	for name, c := range map[string]struct {
		kind uint8
		with []any
	}{
		"queue": {kindQueue, []any{3}}, "array": {kindArray, []any{3}}, "value": {kindValue, []any{data("v", 1)}},
		"semaphore": {kindSemaphore, []any{3, true}}, "cond": {kindCond, []any{uint64(7)}}, "barrier": {kindBarrier, []any{3}},
	} {
		made, err := newThing(c.kind, &reader{b: operandsOf(c.with).b}, k, find)
		require.NoError(t, err)
		all[name] = made
		_, err = newThing(c.kind, new(reader), k, find)
		require.ErrorIs(t, err, errBadRequest, name)
	}
	require.Equal(t, []uint64{1, 7}, k.held(), "the value and the cond")
	for _, kind := range []uint8{0, kindBarrier + 1, kindOwn} {
		_, err := newThing(kind, new(reader), k, nil)
		require.ErrorIs(t, err, errBadRequest)
	}
	_, err := newThing(kindCond, &reader{b: operandsOf([]any{uint64(8)}).b}, k, find)
	require.ErrorIs(t, err, ipc.ErrClosed)
	_, err = newThing(kindCond, &reader{b: operandsOf([]any{uint64(8)}).b}, k, func(uint64) (thing, bool) { return all["event"], true })
	require.ErrorIs(t, err, errBadRequest)

	by := new(client)
	before := k.held()
	for name, to := range all {
		for op := range 20 {
			// No operation reads three bytes that are no varint, and none has an operand after those.
			err := to.do(firstCtx, by, uint8(op), &reader{b: []byte{0xff, 0xff, 0xff}}, new(writer))
			require.ErrorIs(t, err, errBadRequest, "%s %d", name, op)
		}
	}
	require.Equal(t, before, k.held())
	for _, to := range all {
		for _, d := range to.drop() {
			k.release(d)
		}
		to.gone(by)
	}
	require.Empty(t, k.held())
}

func FuzzThing(f *testing.F) {
	f.Add([]byte{1, 1, 'a', 0, 0, 1, 'b'})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Whatever comes, no thing panics or waits, and what it keeps it names at the end.
		k := new(countKeeper)
		lock := newLockThing()
		by := new(client)
		find := func(uint64) (thing, bool) { return lock, true }
		in := &reader{b: b}
		made, err := newThing(uint8(in.uint()), &reader{b: in.bytes()}, k, find)
		if err != nil {
			require.Empty(t, k.held())
			return
		}
		for in.err == nil && len(in.b) > 0 {
			_ = made.do(firstCtx, by, uint8(in.uint()), &reader{b: in.bytes()}, new(writer))
		}
		made.gone(by)
		for _, d := range made.drop() {
			k.release(d)
		}
		require.Empty(t, k.held())
	})
}
