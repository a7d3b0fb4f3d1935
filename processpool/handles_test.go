//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/proctest"
	"example.com/futures/internal/wire"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

type slate = proctest.Slate

// A shelf is a struct that has handles in some of the ways in which it can.
type shelf struct {
	Name  string
	One   *slate
	Many  []*slate
	Named map[string]*slate
	Any   any
	Body  []byte
}

func init() { gob.Register(&slate{}) }

// slates returns the handles of a shelf, in the order in which they are declared.
func (s *shelf) slates() (all []*slate) {
	all = append(append(all, s.One), s.Many...)
	for _, k := range slices.Sorted(mapKeys(s.Named)) {
		all = append(all, s.Named[k])
	}
	if a, ok := s.Any.(*slate); ok {
		all = append(all, a)
	}
	return slices.DeleteFunc(all, func(s *slate) bool { return s == nil })
}

func mapKeys(m map[string]*slate) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func readSlates(all ...*slate) (texts []string, err error) {
	for _, s := range all {
		text, err := s.Read()
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// What a worker keeps from one call to the next.
var (
	lentSlate *slate   // of the last call of slateLend
	ownSlate  *slate   // of the initializer
	madeSlate []*slate // results, which are its own as well
)

var (
	slateRead = executor.NewTask("slateRead", func(_ context.Context, s *slate) (string, error) { return s.Read() })

	slateWrite = executor.NewTask("slateWrite", func(_ context.Context, s shelf) (int, error) { return os.Getpid(), s.One.Write(s.Name) })

	shelfRead = executor.NewTask("shelfRead", func(_ context.Context, s shelf) ([]string, error) { return readSlates(s.slates()...) })

	shelvesRead = executor.NewTask("shelvesRead", func(_ context.Context, all []shelf) (texts []string, err error) {
		for i := range all {
			more, err := readSlates(all[i].slates()...)
			if err != nil {
				return nil, err
			}
			texts = append(texts, more...)
		}
		return texts, nil
	})

	slateAny = executor.NewTask("slateAny", func(_ context.Context, v any) (any, error) { return v, nil })

	slateEcho = executor.NewTask("slateEcho", func(_ context.Context, s *slate) (*slate, error) { return s, nil })

	shelfEcho = executor.NewTask("shelfEcho", func(_ context.Context, s shelf) (shelf, error) { return s, nil })

	slateMake = executor.NewTask("slateMake", func(_ context.Context, text string) (*slate, error) {
		for _, s := range madeSlate {
			s.Close()
		}
		madeSlate = []*slate{proctest.NewSlate(text)}
		return madeSlate[0], nil
	})

	slateClosed = executor.NewTask("slateClosed", func(context.Context, int) (*slate, error) {
		s := proctest.NewSlate("")
		return s, s.Close()
	})

	slateLend = executor.NewTask("slateLend", func(_ context.Context, s *slate) (int, error) {
		lentSlate = s
		return os.Getpid(), nil
	})

	slateLent = executor.NewTask("slateLent", func(context.Context, int) (string, error) { return lentSlate.Read() })

	slateInit = executor.NewTask("slateInit", func(_ context.Context, s *slate) (struct{}, error) {
		ownSlate = s
		return struct{}{}, nil
	})

	slateOwn = executor.NewTask("slateOwn", func(context.Context, int) (string, error) { return ownSlate.Read() })

	// slateKilled says that it runs and does not return, the first time.
	slateKilled = executor.NewTask("slateKilled", func(_ context.Context, s shelf) (string, error) {
		if _, err := os.Stat(s.Name); err != nil {
			announce(s.Name)
			select {}
		}
		return s.One.Read()
	})

	slateGoexit = executor.NewTask("slateGoexit", func(_ context.Context, s *slate) (int, error) {
		lentSlate = s
		runtime.Goexit()
		return 0, nil
	})

	slateWait = executor.NewTask("slateWait", func(ctx context.Context, s shelf) (*slate, error) {
		announce(s.Name)
		<-ctx.Done()
		return s.One, nil
	})

	slateCount = executor.NewTask("slateCount", func(context.Context, int) (int, error) {
		all, err := holds("self")
		return len(all), err
	})

	// slateChild hands a handle on to a process of the worker's own, and back.
	slateChild = executor.NewTask("slateChild", func(ctx context.Context, s *slate) (*slate, error) {
		p, err := worker.Start(ctx, slateEcho, s, worker.Config{})
		if err != nil {
			return nil, err
		}
		return p.Future().Result(ctx)
	})
)

// byRing runs test with calls that travel through shared memory, and through the socket.
func byRing(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for _, name := range []string{"all", "no ring"} {
		t.Run(name, func(t *testing.T) {
			processpool.Without(t, name)
			test(t)
		})
	}
}

// newSlate returns a handle that is closed at the end of the test.
func newSlate(t testing.TB, text string) *slate {
	s := proctest.NewSlate(text)
	t.Cleanup(func() { s.Close() })
	return s
}

// sameDescriptors sees that this process has at the end of the test the descriptors that it
// has now.
func sameDescriptors(t *testing.T) {
	t.Helper()
	before := descriptors()
	t.Cleanup(func() { require.Empty(t, proctest.Opened(before), "left open by the test") })
}

// A handle is an argument, wherever in one it is, and all who have it share what it stands
// for.
func TestHandleAsArgument(t *testing.T) { byRing(t, testHandleAsArgument) }

func testHandleAsArgument(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	a, b, c := newSlate(t, "a"), newSlate(t, "b"), newSlate(t, "c")

	text, err := executor.Apply(ctx, p, slateRead, a)
	require.NoError(t, err)
	require.Equal(t, "a", text)

	_, err = executor.Apply(ctx, p, slateWrite, shelf{Name: "written", One: a})
	require.NoError(t, err)
	text, err = a.Read()
	require.NoError(t, err)
	require.Equal(t, "written", text)
	require.NoError(t, a.Write("a"))

	full := shelf{One: a, Many: []*slate{b, a}, Named: map[string]*slate{"x": c}, Any: b}
	for _, size := range []int{0, 100, 10_000, 1 << 20, 3 << 20} {
		full.Body = bytes.Repeat([]byte("body"), size/4)
		texts, err := executor.Apply(ctx, p, shelfRead, full)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "a", "c", "b"}, texts)
	}
	texts, err := executor.Apply(ctx, p, shelvesRead, []shelf{{One: a}, {}, {Many: []*slate{b, c}}})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, texts)

	texts, err = executor.Apply(ctx, p, shelfRead, shelf{Name: "none"})
	require.NoError(t, err)
	require.Empty(t, texts)
}

// A handle is a result, also one that was in the argument, and then the receiver's.
func TestHandleAsResult(t *testing.T) { byRing(t, testHandleAsResult) }

func testHandleAsResult(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	made, err := executor.Apply(ctx, p, slateMake, "made")
	require.NoError(t, err)
	defer made.Close()
	a := newSlate(t, "a")
	echo, err := executor.Apply(ctx, p, slateEcho, a)
	require.NoError(t, err)
	defer echo.Close()
	require.NoError(t, echo.Write("both"))
	texts, err := readSlates(made, a)
	require.NoError(t, err)
	require.Equal(t, []string{"made", "both"}, texts)

	v, err := executor.Apply(ctx, p, slateAny, any(a))
	require.NoError(t, err)
	defer v.(*slate).Close()
	text, err := v.(*slate).Read()
	require.NoError(t, err)
	require.Equal(t, "both", text)

	for _, size := range []int{0, 10_000, 3 << 20} {
		sent := shelf{One: a, Many: []*slate{made}, Any: a, Body: bytes.Repeat([]byte("body"), size/4)}
		got, err := executor.Apply(ctx, p, shelfEcho, sent)
		require.NoError(t, err)
		require.Len(t, got.Body, len(sent.Body))
		texts, err := readSlates(got.slates()...)
		require.NoError(t, err)
		require.Equal(t, []string{"both", "made", "both"}, texts)
		for _, s := range got.slates() {
			require.NoError(t, s.Close())
		}
	}
	none, err := executor.Apply(ctx, p, slateEcho, nil)
	require.NoError(t, err)
	require.Nil(t, none)
}

// Chunks carry handles in each of their items, and SubmitAll in each call.
func TestHandlesOfMany(t *testing.T) { byRing(t, testHandlesOfMany) }

func testHandlesOfMany(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 2, MaxTasksPerChild: 7})
	var all []*slate
	var want []string
	for i := range 40 {
		want = append(want, fmt.Sprint("slate ", i))
		all = append(all, newSlate(t, want[i]))
	}
	var got []string
	for text, err := range executor.Map(ctx, p, slateRead, slices.Values(all), executor.WithChunk(8)) {
		require.NoError(t, err)
		got = append(got, text)
	}
	require.Equal(t, want, got)

	got = nil
	for s, err := range executor.Map(ctx, p, slateEcho, slices.Values(all), executor.WithChunk(8)) {
		require.NoError(t, err)
		text, err := s.Read()
		require.NoError(t, err)
		require.NoError(t, s.Close())
		got = append(got, text)
	}
	require.Equal(t, want, got)

	got = nil
	for _, f := range executor.SubmitAll(ctx, p, slateRead, all) {
		text, err := f.Result(ctx)
		require.NoError(t, err)
		got = append(got, text)
	}
	require.Equal(t, want, got)
}

// What came in an argument is closed when the call has ended, however it ended; what came
// in the initializer's argument is there for all calls.
func TestWhoseHandlesAre(t *testing.T) { byRing(t, testWhoseHandlesAre) }

func testWhoseHandlesAre(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	own := newSlate(t, "own")
	p := open(t, processpool.Config{Workers: 1, Initializer: executor.Bind(slateInit, own), Worker: hushed})
	a := newSlate(t, "a")
	_, err := executor.Apply(ctx, p, slateLend, a)
	require.NoError(t, err)
	_, err = executor.Apply(ctx, p, slateLent, 0)
	require.ErrorIs(t, err, proctest.ErrWiped)
	_, err = executor.Apply(ctx, p, slateGoexit, a)
	require.Error(t, err)
	_, err = executor.Apply(ctx, p, slateLent, 0)
	require.ErrorIs(t, err, proctest.ErrWiped)
	for range 3 {
		text, err := executor.Apply(ctx, p, slateOwn, 0)
		require.NoError(t, err)
		require.Equal(t, "own", text)
	}
	text, err := a.Read()
	require.NoError(t, err)
	require.Equal(t, "a", text)
}

// A closed handle fails the call that it is in, and nothing else.
func TestClosedHandle(t *testing.T) { byRing(t, testClosedHandle) }

func testClosedHandle(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	before, err := executor.Apply(ctx, p, slateLend, newSlate(t, ""))
	require.NoError(t, err)
	a, wiped := newSlate(t, "a"), newSlate(t, "")
	require.NoError(t, wiped.Close())
	_, err = executor.Apply(ctx, p, slateRead, wiped)
	require.ErrorIs(t, err, proctest.ErrWiped)
	require.ErrorContains(t, err, "encoding the argument")
	_, err = executor.Apply(ctx, p, shelfRead, shelf{One: a, Any: wiped})
	require.ErrorIs(t, err, proctest.ErrWiped)
	_, err = executor.Apply(ctx, p, slateClosed, 0)
	require.ErrorIs(t, err, proctest.ErrWiped)
	require.ErrorContains(t, err, "encoding the result")
	var errs int
	for text, err := range executor.Map(ctx, p, slateRead, slices.Values([]*slate{a, wiped, a}), executor.WithChunk(3)) {
		if err != nil {
			require.ErrorIs(t, err, proctest.ErrWiped)
			errs++
		} else {
			require.Equal(t, "a", text)
		}
	}
	require.Equal(t, 1, errs)
	after, err := executor.Apply(ctx, p, slateLend, a)
	require.NoError(t, err)
	require.Equal(t, before, after)

	broken := open(t, processpool.Config{Workers: 1, Initializer: executor.Bind(slateInit, wiped)})
	_, err = executor.Apply(ctx, broken, slateOwn, 0)
	require.ErrorIs(t, err, proctest.ErrWiped)
}

// A call whose worker was killed takes its handles to another one.
func TestHandleOfLostWorker(t *testing.T) { byRing(t, testHandleOfLostWorker) }

func testHandleOfLostWorker(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	path := filepath.Join(t.TempDir(), "runs")
	f := executor.Submit(ctx, p, slateKilled, shelf{Name: path, One: newSlate(t, "again")}, executor.WithRetries(1))
	pid, err := await(ctx, path)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	text, err := f.Result(ctx)
	require.NoError(t, err)
	require.Equal(t, "again", text)
}

// Calls that are taken back, cancelled or interrupted leave no descriptors behind.
func TestHandlesOfCancelledCalls(t *testing.T) { byRing(t, testHandlesOfCancelledCalls) }

func testHandlesOfCancelledCalls(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	a := newSlate(t, "a")
	before, err := executor.Apply(ctx, p, slateCount, 0)
	require.NoError(t, err)
	for i := range 20 {
		path := filepath.Join(t.TempDir(), fmt.Sprint(i))
		runs := executor.Submit(ctx, p, slateWait, shelf{Name: path, One: a})
		_, err := await(ctx, path)
		require.NoError(t, err)
		var waiting []*future.Future[string]
		for range 5 {
			waiting = append(waiting, executor.Submit(ctx, p, slateRead, a))
		}
		for _, f := range waiting {
			f.Cancel()
		}
		runs.Interrupt(errors.New("enough"))
		if s, err := runs.Result(ctx); err == nil {
			require.NoError(t, s.Close())
		}
	}
	// Some of these are cancelled on their way to an idle worker.
	for range 300 {
		f := executor.Submit(ctx, p, slateRead, a)
		if !f.Cancel() {
			_, err := f.Result(ctx)
			require.NoError(t, err)
		}
	}
	after, err := executor.Apply(ctx, p, slateCount, 0)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// Many calls leave neither here nor in the worker a descriptor behind.
func TestHandlesLeakNothing(t *testing.T) { byRing(t, testHandlesLeakNothing) }

func testHandlesLeakNothing(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	s := newSlate(t, "a")
	_, err := executor.Apply(ctx, p, slateRead, s)
	require.NoError(t, err)
	theirs, err := executor.Apply(ctx, p, slateCount, 0)
	require.NoError(t, err)
	before := descriptors()
	for i := range 1000 {
		if i%2 == 0 {
			_, err = executor.Apply(ctx, p, slateRead, s)
			require.NoError(t, err)
			continue
		}
		got, err := executor.Apply(ctx, p, slateEcho, s)
		require.NoError(t, err)
		require.NoError(t, got.Close())
	}
	require.Empty(t, proctest.Opened(before))
	after, err := executor.Apply(ctx, p, slateCount, 0)
	require.NoError(t, err)
	require.Equal(t, theirs, after)
}

// A worker hands a handle on to a process of its own.
func TestHandleOfGrandchild(t *testing.T) { byRing(t, testHandleOfGrandchild) }

func testHandleOfGrandchild(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	a := newSlate(t, "a")
	got, err := executor.Apply(ctx, p, slateChild, a)
	require.NoError(t, err)
	require.NoError(t, got.Write("from below"))
	require.NoError(t, got.Close())
	text, err := a.Read()
	require.NoError(t, err)
	require.Equal(t, "from below", text)
}

// An encoder that is not the library's takes no handle, and says so.
func TestHandleIsNotPortable(t *testing.T) {
	s := newSlate(t, "a")
	err := executor.Bind(slateRead, s).Encode(gob.NewEncoder(new(bytes.Buffer)))
	require.ErrorIs(t, err, executor.ErrNotPortable)
	err = executor.Bind(shelfRead, shelf{Any: s}).Encode(gob.NewEncoder(new(bytes.Buffer)))
	require.ErrorIs(t, err, executor.ErrNotPortable)
	_, _, err = wire.NewEncoder(1 << 20).Message(func(e *wire.Encoder) error { return executor.Bind(slateRead, s).Encode(e) })
	require.ErrorIs(t, err, executor.ErrNotPortable)
	_, err = wire.Marshal(&wire.Box[*slate]{V: s})
	require.ErrorIs(t, err, executor.ErrNotPortable)
}

// A bundle is a handle of many descriptors. What arrives says how many there were.
type bundle struct {
	id    byte
	Count int
}

func (b *bundle) CarryID() carry.ID { return carry.ID{0: 'b', 1: b.id} }

func (b *bundle) Export() (fds []int, err error) {
	for range b.Count {
		fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func (b *bundle) Exported()                  {}
func (b *bundle) GobEncode() ([]byte, error) { return []byte{b.id}, nil }

func (b *bundle) GobDecode(text []byte) error {
	b.id = text[0]
	fds, ok, err := carry.Claim(b.CarryID())
	if err != nil || !ok {
		return fmt.Errorf("a bundle without descriptors: %v, %w", ok, err)
	}
	b.Count = len(fds)
	for _, fd := range fds {
		unix.Close(fd)
	}
	return nil
}

var (
	bundleEcho = executor.NewTask("bundleEcho", func(_ context.Context, all []*bundle) ([]*bundle, error) { return all, nil })

	bundleMake = executor.NewTask("bundleMake", func(_ context.Context, n int) (*bundle, error) { return &bundle{1, n}, nil })

	// filesLimit sets how many more files the worker may open; negative: as many as before.
	filesLimit = executor.NewTask("filesLimit", func(_ context.Context, n int) (int, error) { return 0, limitFiles(n) })

	usualFiles unix.Rlimit
)

func limitFiles(n int) error {
	if n < 0 {
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &usualFiles)
	}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &usualFiles); err != nil {
		return err
	}
	next, err := unix.Dup(0) // the lowest number that is free
	if err != nil {
		return err
	}
	unix.Close(next)
	low := usualFiles
	low.Cur = uint64(next + n)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &low)
}

// A call takes thousands of descriptors along. Where there are too many, the call fails and
// says so.
func TestManyDescriptors(t *testing.T) { byRing(t, testManyDescriptors) }

func testManyDescriptors(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	before, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	for _, n := range []int{1, 253, 254, 1500} {
		sent := []*bundle{{1, n}, {2, 2}}
		got, err := executor.Apply(ctx, p, bundleEcho, sent)
		require.NoError(t, err)
		require.Equal(t, sent, got)
	}
	for range 2 {
		_, err = executor.Apply(ctx, p, bundleEcho, []*bundle{{1, 6000}, {2, 73}})
		require.ErrorContains(t, err, "encoding the argument: sending the descriptors of handles: 6073 descriptors, and 6072 are the most")
		_, err = executor.Apply(ctx, p, bundleMake, 6073)
		require.ErrorContains(t, err, "encoding the result: sending the descriptors of handles: 6073 descriptors, and 6072 are the most")
		_, err = executor.Apply(ctx, p, bundleEcho, []*bundle{{1, 0}})
		require.ErrorContains(t, err, "no descriptors")
		got, err := executor.Apply(ctx, p, bundleEcho, []*bundle{{1, 3}})
		require.NoError(t, err)
		require.Equal(t, 3, got[0].Count)
	}
	after, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// A process that has too many files open gets no handles, and says so: it is the call that
// fails, and no other.
func TestHandlesOverTheLimit(t *testing.T) { byRing(t, testHandlesOverTheLimit) }

func testHandlesOverTheLimit(t *testing.T) {
	sameDescriptors(t)
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	s := newSlate(t, "a")
	before, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	limit := func(n int) {
		_, err := executor.Apply(ctx, p, filesLimit, n)
		require.NoError(t, err)
	}
	for _, room := range []int{0, 1} { // for what arrives; for that, and no duplicate
		limit(room)
		for range 2 {
			_, err = executor.Apply(ctx, p, slateRead, s)
			require.ErrorContains(t, err, "decoding the argument", room)
		}
		limit(-1)
		text, err := executor.Apply(ctx, p, slateRead, s)
		require.NoError(t, err)
		require.Equal(t, "a", text)
	}
	for _, room := range []int{0, 1} {
		require.NoError(t, limitFiles(room))
		_, err = executor.Apply(ctx, p, slateMake, "b")
		require.NoError(t, limitFiles(-1))
		require.ErrorContains(t, err, `decoding the result`, room)
		made, err := executor.Apply(ctx, p, slateMake, "b")
		require.NoError(t, err)
		require.NoError(t, made.Close())
	}
	after, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// smuggle writes a frame to the worker's socket, with descriptors that nobody asked for.
var smuggle = executor.NewTask("smuggle", func(_ context.Context, c contraband) (any, error) {
	for range c.Times {
		fds := make([]int, c.FDs)
		for i := range fds {
			fds[i] = 1
		}
		if err := unix.Sendmsg(3, c.Bytes, unix.UnixRights(fds...), nil, 0); err != nil {
			return nil, err
		}
	}
	select {}
})

type contraband struct {
	Bytes []byte
	FDs   int
	Times int
}

// Descriptors that a worker sends without being asked are closed, and it is lost.
func TestSmuggledDescriptors(t *testing.T) { byRing(t, testSmuggledDescriptors) }

func testSmuggledDescriptors(t *testing.T) {
	frame := func(kind wire.Kind, flags uint8, files uint16, payload []byte) []byte {
		return wire.Append(nil, wire.Header{Kind: kind, Seq: 2, Flags: flags, Files: files}, payload)
	}
	list := (&carry.Load{Items: []carry.Item{{FDs: []int{1, 1}}}}).Append(nil)
	for name, c := range map[string]contraband{
		"with a bell":                 {frame(wire.KindBell, 0, 0, nil), 3, 1},
		"with many bells":             {frame(wire.KindBell, 0, 0, nil), 253, 3},
		"with half a frame":           {frame(wire.KindResult, wire.FlagCarry, 2, list)[:30], 2, 3},
		"announced by a bell":         {frame(wire.KindBell, wire.FlagCarry, 2, nil), 2, 1},
		"of an error":                 {frame(wire.KindError, wire.FlagCarry, 2, list), 2, 1},
		"fewer than announced":        {frame(wire.KindResult, wire.FlagCarry|wire.FlagAlone, 5, list), 2, 1},
		"more than announced":         {frame(wire.KindResult, wire.FlagCarry|wire.FlagAlone, 1, list), 2, 1},
		"with no list":                {frame(wire.KindResult, wire.FlagCarry|wire.FlagAlone, 2, nil), 2, 6},
		"with a list and no value":    {frame(wire.KindResult, wire.FlagCarry|wire.FlagAlone, 2, list), 2, 6},
		"of a plain value":            {frame(wire.KindResult, wire.FlagCarry|wire.FlagPlain, 2, list), 2, 6},
		"of a value that has none":    {frame(wire.KindResult, wire.FlagAlone, 2, list), 2, 6},
		"of a stream not begun":       {frame(wire.KindResult, wire.FlagCarry, 2, list), 2, 6},
		"with parts that are nowhere": {frame(wire.KindResult, wire.FlagCarry|wire.FlagParts|wire.FlagStart, 2, list), 2, 6},
	} {
		t.Run(name, func(t *testing.T) {
			sameDescriptors(t)
			p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{Output: hushed.Output, KillGrace: -1}})
			ctx, cancel := context.WithTimeout(within(t), 20*time.Second)
			defer cancel()
			_, err := executor.Apply(ctx, p, smuggle, c)
			lost := new(executor.WorkerLostError)
			require.ErrorAs(t, err, &lost)
			require.NoError(t, ctx.Err())
			_, err = executor.Apply(ctx, p, pid, struct{}{})
			require.NoError(t, err)
		})
	}
}

// BenchmarkHandle is one call at a time, with a handle and without, on workers with as many
// processors as there are, and with one.
func BenchmarkHandle(b *testing.B) {
	for _, procs := range []int{0, 1} {
		p := open(b, processpool.Config{Workers: 1, Worker: worker.Config{GOMAXPROCS: procs}})
		ctx := b.Context()
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("GOMAXPROCS=%d/handle=%v", procs, with), func(b *testing.B) {
				var s *slate
				if with {
					s = newSlate(b, "a")
				}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := executor.Apply(ctx, p, slateLend, s); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
