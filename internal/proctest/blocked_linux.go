package proctest

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

// Blocked waits until so many goroutines of this process stand still in a function, or in
// what it has called: they wait for something. fn is a part of the function's name as stacks
// have it, "ipc.(*Lock).Lock(" for example.
func Blocked(tb testing.TB, n int, fn string) {
	tb.Helper()
	for ctx := Within(tb); AreBlocked(fn) < n; {
		select {
		case <-ctx.Done():
			tb.Fatalf("%d goroutines stand still in %s, want %d", AreBlocked(fn), fn, n)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// AreBlocked returns how many goroutines stand still in fn, see Blocked.
func AreBlocked(fn string) (n int) {
	buf := make([]byte, 1<<20)
	for {
		used := runtime.Stack(buf, true)
		if used < len(buf) {
			buf = buf[:used]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	for stack := range bytes.SplitSeq(buf, []byte("\n\n")) {
		head, frames, _ := bytes.Cut(stack, []byte("\n"))
		running := bytes.Contains(head, []byte("[running")) || bytes.Contains(head, []byte("[runnable"))
		frames, _, _ = bytes.Cut(frames, []byte("\ncreated by ")) // who has started it may be anywhere
		if !running && bytes.Contains(frames, []byte(fn)) {
			n++
		}
	}
	return n
}
