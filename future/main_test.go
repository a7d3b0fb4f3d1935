package future_test

import (
	"bytes"
	"context"
	"errors"
	"log"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"weak"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errCall  = errors.New("the call failed")
	errCause = errors.New("enough")
)

// ended returns a context that has ended: a wait under it is a poll.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A logged holds what was logged, by any goroutine.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// captureLog has slog write to the result until t ends.
func captureLog(t *testing.T) *logged {
	l := new(logged)
	old, w, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(l, nil)))
	t.Cleanup(func() { // SetDefault turned the log package to slog as well
		slog.SetDefault(old)
		log.SetOutput(w)
		log.SetFlags(flags)
	})
	return l
}

// collected reports whether nothing holds what p points to.
func collected[T any](p weak.Pointer[T]) bool {
	for range 20 {
		runtime.GC()
		if p.Value() == nil {
			return true
		}
	}
	return false
}

// growth returns by how many bytes the heap has grown after fn.
func growth(fn func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	fn()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}
