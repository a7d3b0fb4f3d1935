package ipc_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
	"example.com/futures/ipc"
	"example.com/futures/worker"
)

// A test starts other processes in roles, and hands them handles:
//
//	func init() {
//		role("hold", func(l *ipc.Lock, args []string) { must(l.Lock(bg)); say("held"); heard("let go"); … })
//	}
//
//	p := start(t, "hold", lock, "")
//	p.hear("held")
//	p.tell("let go")
//	p.ends()
//
// They talk by lines, and the end of the test's process is that of theirs.
func TestMain(m *testing.M) {
	worker.Main()
	proctest.Main(m, play)
}

// roles are what a process of a test can do, by name.
var roles = map[string]func(args []string){}

// role adds one, from init. fn is given the handles that start was given: one, or a struct
// of them. Its end is that of the process.
func role[H any](name string, fn func(h H, args []string)) {
	if roles[name] != nil {
		panic("two roles are named " + name)
	}
	roles[name] = func(args []string) { fn(unpack[H](), args) }
}

// A cast is the handles of locks and their like that a role has: those that the test has set.
type cast struct {
	Lock, Lock2 *ipc.Lock
	RLock       *ipc.RLock
	Sem         *ipc.Semaphore
	Event       *ipc.Event
	Event2      *ipc.Event
	Cond        *ipc.Cond
	Barrier     *ipc.Barrier
}

// A bag is the queues and pipes that a role has: those that the test has set.
type bag struct {
	Ints, Back    *ipc.Queue[int]
	Bytes, Bytes2 *ipc.Queue[[]byte]
	Conn          *ipc.Conn[[]byte]
	Gifts         *ipc.Conn[gift]
	Self          *ipc.Conn[letter]
}

// A gift is a message with a handle in it.
type gift struct {
	N     int
	Queue *ipc.Queue[int]
}

const (
	handlesVar = "FUTURES_TEST_HANDLES"
	idsVar     = "FUTURES_TEST_IDS"
	dieVar     = "FUTURES_TEST_DIE"
)

// play is the life of a process that start has started.
func play(name string) {
	fn := roles[name]
	if fn == nil {
		return
	}
	go listen()
	fn(os.Args[1:])
	os.Exit(0)
}

// unpack returns the handles of this process, if it has any, and sets where it dies.
func unpack[H any]() (h H) {
	encoded, given := os.LookupEnv(handlesVar)
	if !given {
		return h
	}
	load := new(carry.Load)
	fd := 3
	for id := range strings.FieldsSeq(os.Getenv(idsVar)) {
		var it carry.Item
		var n int
		var name string
		get(fmt.Sscanf(id, "%32s/%d", &name, &n))
		copy(it.ID[:], get(hex.DecodeString(name)))
		for range n {
			it.FDs = append(it.FDs, fd)
			syscall.CloseOnExec(fd)
			fd++
		}
		load.Items = append(load.Items, it)
	}
	var v struct{ H H }
	load.Arrive()
	must(gob.NewDecoder(bytes.NewReader(get(hex.DecodeString(encoded)))).Decode(&v))
	load.Settle()
	if at := os.Getenv(dieVar); at != "" {
		dieAt(at)
	}
	return v.H
}

// dieAt has this process killed when it comes to a step: "name", or "name#n" for the n-th
// time; or stopped, after "stop at ".
func dieAt(at string) {
	at, stops := strings.CutPrefix(at, "stop at ")
	name, count, _ := strings.Cut(at, "#")
	var n atomic.Int32
	n.Store(1)
	if count != "" {
		n.Store(int32(get(strconv.Atoi(count))))
	}
	segment.SetStep(func(step string) {
		if step != name || n.Add(-1) != 0 {
			return
		}
		if !stops {
			die()
		}
		goOn := make(chan os.Signal, 1)
		signal.Notify(goOn, syscall.SIGCONT)
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-goOn // a thread may run on for a moment
	})
}

// die is the death of this process by SIGKILL.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// get and must panic with an error, in a process of a test.
func get[T any](v T, err error) T {
	must(err)
	return v
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// say is a line to the test; heard waits for one from it.
func say(line any) { fmt.Println(line) }

var (
	lines   = make(chan string, 16)
	stopped = make(chan struct{}) // closed when the test says "stop"
)

func heard(want string) {
	if line := <-lines; line != want {
		panic("heard " + line)
	}
}

// stopping reports whether the test has said "stop".
func stopping() bool {
	select {
	case <-stopped:
		return true
	default:
		return false
	}
}

func listen() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if line := in.Text(); line == "stop" {
			close(stopped)
		} else {
			lines <- line
		}
	}
	os.Exit(3) // the test is gone
}

// A process is one of a test.
type process struct {
	tb   testing.TB
	cmd  *exec.Cmd
	in   *os.File
	out  *bufio.Reader
	errs bytes.Buffer
	gone bool // it has been waited for
}

// start starts a process in a role, with handles, or a struct of them. die, if it is not "",
// is the step at which it is killed. It is also killed at the end of the test, or if that
// takes too long.
func start[H any](tb testing.TB, role string, handles H, die string, args ...string) *process {
	tb.Helper()
	load, encoded := pack(tb, handles)
	var ids []string
	var files []*os.File
	if load != nil {
		for _, it := range load.Items {
			ids = append(ids, fmt.Sprintf("%x/%d", it.ID, len(it.FDs)))
			for _, fd := range it.FDs {
				files = append(files, os.NewFile(uintptr(fd), "handle"))
			}
		}
	}
	p := launch(tb, role, files, []string{handlesVar + "=" + hex.EncodeToString(encoded), idsVar + "=" + strings.Join(ids, " "), dieVar + "=" + die}, args...)
	for _, f := range files {
		f.Close()
	}
	return p
}

// launch starts a process that has files, and no handles unless env has.
func launch(tb testing.TB, role string, files []*os.File, env []string, args ...string) *process {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute+stressTime(tb))
	p := &process{tb: tb, cmd: proctest.Self(ctx, role, args...)}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.ExtraFiles = files
	inR, inW, err := os.Pipe()
	require.NoError(tb, err)
	outR, outW, err := os.Pipe()
	require.NoError(tb, err)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = inR, outW, &p.errs
	p.in, p.out = inW, bufio.NewReader(outR)
	err = p.cmd.Start()
	inR.Close()
	outW.Close()
	require.NoError(tb, err)
	tb.Cleanup(func() {
		cancel()
		if !p.gone {
			_ = p.cmd.Wait() // it was killed
		}
		inW.Close()
		outR.Close()
	})
	return p
}

// line waits for a line that the process says.
func (p *process) line() string {
	p.tb.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		_ = p.cmd.Process.Kill()
		err = errors.Join(err, p.wait())
	}
	require.NoErrorf(p.tb, err, "the process: %s", &p.errs)
	return strings.TrimSuffix(line, "\n")
}

// hear waits for a line that is to be as wanted.
func (p *process) hear(want string) {
	p.tb.Helper()
	require.Equal(p.tb, want, p.line())
}

// tell says a line to the process.
func (p *process) tell(line string) {
	p.tb.Helper()
	_, err := fmt.Fprintln(p.in, line)
	require.NoError(p.tb, err)
}

// kill ends the process, and waits until it is gone.
func (p *process) kill() {
	p.tb.Helper()
	require.NoError(p.tb, p.cmd.Process.Kill())
	p.killed()
}

// killed waits until the process has been killed.
func (p *process) killed() {
	p.tb.Helper()
	err := p.wait()
	var ended *exec.ExitError
	require.Truef(p.tb, errors.As(err, &ended) && ended.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL, "the process ended with %v: %s", err, &p.errs)
}

// stopped waits until the process has been stopped; goOn has it go on.
func (p *process) stopped() {
	p.tb.Helper()
	for ctx := proctest.Within(p.tb); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		require.NoError(p.tb, err)
		if strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " T") {
			return
		}
		require.NoError(p.tb, ctx.Err())
		time.Sleep(time.Millisecond) // between two looks
	}
}

func (p *process) goOn() {
	p.tb.Helper()
	require.NoError(p.tb, p.cmd.Process.Signal(syscall.SIGCONT))
}

// ends waits until the process has ended well.
func (p *process) ends() {
	p.tb.Helper()
	require.NoErrorf(p.tb, p.wait(), "the process: %s", &p.errs)
}

func (p *process) wait() error {
	p.gone = true
	return p.cmd.Wait()
}

// pack encodes handles, which have to be in a struct, and what goes along.
func pack[H any](tb testing.TB, handles H) (*carry.Load, []byte) {
	tb.Helper()
	v := struct{ H H }{handles}
	load, err := carry.Collect(reflect.ValueOf(&v))
	require.NoError(tb, err)
	var b bytes.Buffer
	err = gob.NewEncoder(&b).Encode(&v)
	load.Encoded()
	require.NoError(tb, err)
	return load, b.Bytes()
}

// again returns a second handle of this process, which has come as from another one.
func again[H any](tb testing.TB, h H) H {
	tb.Helper()
	load, encoded := pack(tb, h)
	var v struct{ H H }
	load.Arrive()
	err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&v)
	load.Settle()
	require.NoError(tb, err)
	return v.H
}

// decodeAs has h decode what from sends, with other bytes after the ID.
func decodeAs(tb testing.TB, h gob.GobDecoder, from carry.Handle, rest ...byte) error {
	tb.Helper()
	fds, err := from.Export()
	require.NoError(tb, err)
	from.Exported()
	id := from.CarryID()
	load := &carry.Load{Items: []carry.Item{{ID: id, FDs: fds}}}
	load.Arrive()
	defer load.Settle()
	return h.GobDecode(append(id[:], rest...))
}

// stressTime is how long a stress test goes on: FUTURES_STRESS, or little.
func stressTime(tb testing.TB) time.Duration {
	s := os.Getenv("FUTURES_STRESS")
	if s == "" {
		return 500 * time.Millisecond
	}
	d, err := time.ParseDuration(s)
	require.NoError(tb, err, "FUTURES_STRESS")
	return d
}

// bg is for those processes, which have no test to be cancelled with.
var bg = context.Background()

// soon is a ctx that ends soon.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// ended is a ctx that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// threads returns how many threads this process has.
func threads(tb testing.TB) int {
	all, err := os.ReadDir("/proc/self/task")
	require.NoError(tb, err)
	return len(all)
}

// mapped returns how many objects this process has mapped.
func mapped(tb testing.TB) int {
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(tb, err)
	return strings.Count(string(maps), "futures-ipc")
}
