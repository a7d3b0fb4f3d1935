//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// A fate is what befalls a step of a call.
type fate string

const (
	none       fate = ""
	anError    fate = "error"
	aPanic     fate = "panic"
	goexit     fate = "Goexit"
	exit0      fate = "os.Exit(0)"
	exit3      fate = "os.Exit(3)"
	sigkill    fate = "SIGKILL"
	wildAccess fate = "wild pointer"
	overflow   fate = "stack overflow"
	mapWrites  fate = "concurrent map writes"
	noMemory   fate = "out of memory"
	hang       fate = "hang"
)

var errFate = errors.New("the fate of this step")

func init() { executor.RegisterError("processpool_test.errFate", errFate) }

// befall lets f happen.
func befall(f fate) error {
	switch f {
	case none:
		return nil
	case anError:
		return errFate
	case aPanic:
		panic("panic: " + errFate.Error())
	case goexit:
		runtime.Goexit()
	case exit0:
		os.Exit(0)
	case exit3:
		fmt.Fprintln(os.Stderr, "about to exit")
		os.Exit(3)
	case sigkill:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case wildAccess:
		address := uintptr(0xdead0000)
		*(*int)(*(*unsafe.Pointer)(unsafe.Pointer(&address))) = 1
	case overflow:
		debug.SetMaxStack(1 << 20)
		return deeper(nil)
	case mapWrites:
		runtime.GOMAXPROCS(4) // with one, which is usual in a worker, nothing would be concurrent
		m := map[int]int{}
		write := func() {
			for i := 0; ; i++ {
				m[i%8] = i
			}
		}
		go write()
		write()
	case noMemory:
		none := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
		if err := unix.Setrlimit(unix.RLIMIT_AS, &none); err != nil {
			return err
		}
		runtime.KeepAlive(make([]byte, 1<<40))
	case hang:
		select {}
	}
	return nil
}

func deeper(x []byte) error {
	var more [1 << 10]byte
	copy(more[:], x)
	//lint:ignore SA5007 the overflow is what it is for
	return fmt.Errorf("%w", deeper(more[:]))
}

// A bomb is an argument and a result that decides about each of its steps.
type bomb struct{ encode, decode, run, encodeResult, decodeResult fate }

func (b bomb) GobEncode() ([]byte, error) {
	if err := befall(b.encode); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s|%s|%s|%s", b.decode, b.run, b.encodeResult, b.decodeResult), nil
}

func (b *bomb) GobDecode(data []byte) error {
	f := bytes.Split(data, []byte{'|'})
	*b = bomb{decode: fate(f[0]), run: fate(f[1]), encodeResult: fate(f[2]), decodeResult: fate(f[3])}
	return befall(b.decode)
}

var (
	double = executor.NewTask("double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

	explode = executor.NewTask("explode", func(_ context.Context, b bomb) (bomb, error) {
		return bomb{encode: b.encodeResult, decode: b.decodeResult}, befall(b.run)
	})

	pid = executor.NewTask("pid", func(context.Context, struct{}) (int, error) { return os.Getpid(), nil })

	echo = executor.NewTask("echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })

	anything = executor.NewTask("anything", func(_ context.Context, v any) (any, error) { return v, nil })

	// crashAt crashes at a given number, but, if it names a file, only until that is there.
	crashAt = executor.NewTask("crashAt", func(_ context.Context, a crash) (int, error) {
		if a.N == a.At {
			if a.Once == "" {
				os.Exit(3)
			}
			if f, err := os.OpenFile(a.Once, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				f.Close()
				os.Exit(3)
			}
		}
		return a.N, nil
	})

	// deaf goes on for ever, whatever becomes of its context.
	deaf = executor.NewTask("deaf", func(_ context.Context, path string) (int, error) {
		announce(path)
		select {}
	})

	// patient waits for the end of its context and tells what it saw.
	patient = executor.NewTask("patient", func(ctx context.Context, path string) (string, error) {
		announce(path)
		<-ctx.Done()
		return fmt.Sprintf("%v|%v", ctx.Err(), context.Cause(ctx)), nil
	})

	look = executor.NewTask("look", func(_ context.Context, what string) (string, error) {
		switch what {
		case "env":
			return os.Getenv("PROCESSPOOL_TEST_VALUE") + os.Getenv("FUTURES_WORKER_DEPTH"), nil
		case "dir":
			return os.Getwd()
		case "args":
			return fmt.Sprintf("%d %s", len(os.Args), os.Args[0]), nil
		case "descriptors":
			return fmt.Sprint(descriptors()), nil
		case "stdin":
			n, err := os.Stdin.Read(make([]byte, 1))
			return fmt.Sprint(n, err), nil
		case "worker":
			return fmt.Sprint(worker.InWorker(), worker.Index(), runtime.GOMAXPROCS(0)), nil
		case "group":
			return strconv.FormatBool(syscall.Getpgrp() == os.Getpid()), nil
		case "session":
			sid, err := unix.Getsid(0)
			return strconv.FormatBool(sid == os.Getpid()), err
		case "parent":
			return strconv.Itoa(os.Getppid()), nil
		case "exe":
			return os.Readlink("/proc/self/exe")
		}
		return "", fmt.Errorf("look at %q?", what)
	})

	nested = executor.NewTask("nested", func(ctx context.Context, n int) (int, error) {
		p, err := processpool.New(processpool.Config{Workers: 1})
		if err != nil {
			return 0, err
		}
		defer p.Close()
		return executor.Apply(ctx, p, double, n)
	})

	say = executor.NewTask("say", func(_ context.Context, f fate) (int, error) {
		fmt.Println("out one")
		fmt.Fprint(os.Stderr, "err one\nerr without an end")
		return 1, befall(f)
	})

	prepare = executor.NewTask("prepare", func(_ context.Context, f fate) (struct{}, error) {
		prepared++
		return struct{}{}, befall(f)
	})

	isPrepared = executor.NewTask("isPrepared", func(context.Context, struct{}) (int, error) { return prepared, nil })
)

// prepared is set by an initializer, in its worker.
var prepared int

type crash struct {
	N, At int
	Once  string
}

type shape interface{ Area() int }

type square struct{ Side int }

func (s square) Area() int { return s.Side * s.Side }

type pair struct{ A, B any }

func init() {
	gob.Register(square{})
	gob.Register(pair{})
}

// selfStopping returns a result during the writing of which its process is killed.
var selfStopping = executor.NewTask("selfStopping", func(_ context.Context, n int) (halfSent, error) {
	return halfSent{make([]byte, n)}, nil
})

// halfSent has its process killed while what it is encoded to is written: as soon as
// there is something in the socket that this process has as descriptor 3, and that
// does not hold all of it.
type halfSent struct{ B []byte }

func (h halfSent) GobEncode() ([]byte, error) {
	go func() {
		for {
			if n, err := unix.IoctlGetInt(3, unix.TIOCOUTQ); err != nil || n > 1<<10 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
			runtime.Gosched()
		}
	}()
	return h.B, nil
}

func (h *halfSent) GobDecode(b []byte) error {
	h.B = b
	return nil
}

// stubborn ignores SIGTERM.
var stubborn = executor.NewTask("stubborn", func(_ context.Context, path string) (int, error) {
	signal.Ignore(syscall.SIGTERM)
	announce(path)
	select {}
})
