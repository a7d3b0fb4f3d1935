package clusterpool_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/executor"
)

// A rude value decodes itself as decodeRude says.
type rude struct{ N int }

var decodeRude atomic.Pointer[func()]

func (rude) GobEncode() ([]byte, error) { return []byte{1}, nil }

func (r *rude) GobDecode([]byte) error {
	if fn := decodeRude.Load(); fn != nil {
		(*fn)()
	}
	return nil
}

var rudeTask = executor.NewTask("clusterpool.rude", func(context.Context, struct{}) (rude, error) { return rude{1}, nil })

// A result that ends the goroutine, or panics, while it is decoded ends the future that was
// attached. It used to stay pending for ever.
func TestAttachDecodingEndsItsGoroutine(t *testing.T) {
	p, err := embed.New(t.Context(), clusterpool.Config{}, 1)
	require.NoError(t, err)
	defer p.Close()
	f := executor.Submit(t.Context(), p, rudeTask, struct{}{})
	require.NoError(t, f.Exception(t.Context()))

	exit, fail := runtime.Goexit, func() { panic("no") }
	defer decodeRude.Store(nil)
	decodeRude.Store(&exit)
	err = clusterpool.Attach[rude](t.Context(), p, clusterpool.ID(f)).Exception(t.Context())
	require.ErrorContains(t, err, "runtime.Goexit was called")
	decodeRude.Store(&fail)
	err = clusterpool.Attach[rude](t.Context(), p, clusterpool.ID(f)).Exception(t.Context())
	var panicked *executor.PanicError
	require.ErrorAs(t, err, &panicked)
	require.Contains(t, string(panicked.Stack), "GobDecode")
}
