package worker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/worker"
)

type desk struct {
	Path  string
	Slate *proctest.Slate
}

var (
	// writeLater writes to a slate when there is a file, and returns it.
	writeLater = executor.NewTask("writeLater", func(ctx context.Context, d desk) (*proctest.Slate, error) {
		if _, err := proctest.Await(ctx, d.Path); err != nil {
			return nil, err
		}
		return d.Slate, d.Slate.Write("written")
	})

	// below has a process of its own write to a slate.
	below = executor.NewTask("below", func(ctx context.Context, d desk) (*proctest.Slate, error) {
		p, err := worker.Start(ctx, writeLater, d, worker.Config{})
		if err != nil {
			return nil, err
		}
		return p.Future().Result(ctx)
	})
)

// A process gets a handle, and gives one back. It has been sent what it was started with when
// Start returns.
func TestProcessWithHandle(t *testing.T) {
	for name, task := range map[string]executor.Task[desk, *proctest.Slate]{"itself": writeLater, "one below": below} {
		t.Run(name, func(t *testing.T) {
			byEachMethod(t, func(t *testing.T, cfg worker.Config) {
				ctx := proctest.Within(t)
				s, kept := proctest.NewSlate("empty"), proctest.NewSlate("kept")
				defer kept.Close()
				before := proctest.Descriptors()
				path := filepath.Join(t.TempDir(), "go on")
				p := start(t, task, desk{path, s}, cfg)
				require.NoError(t, s.Close())
				proctest.Note(path, os.Getpid())
				got, err := p.Future().Result(ctx)
				require.NoError(t, err)
				text, err := got.Read()
				require.NoError(t, err)
				require.Equal(t, "written", text)
				require.NoError(t, got.Close())
				require.Zero(t, finished(t, p))
				if cfg.StartMethod == worker.Spawn {
					require.Empty(t, proctest.Opened(before))
				}
			})
		})
	}
}

// A handle that cannot go along is why Start fails, and then there is no process.
func TestStartWithClosedHandle(t *testing.T) {
	before := proctest.Descriptors()
	s := proctest.NewSlate("")
	require.NoError(t, s.Close())
	_, err := worker.Start(proctest.Within(t), writeLater, desk{Slate: s}, worker.Config{})
	require.ErrorIs(t, err, proctest.ErrWiped)
	require.ErrorContains(t, err, "encoding the argument")

	s = proctest.NewSlate("")
	defer s.Close()
	_, err = worker.Start(proctest.Within(t), writeLater, desk{Slate: s}, worker.Config{Command: []string{"/nowhere"}})
	require.Error(t, err)
	ctx, cancel := context.WithCancelCause(proctest.Within(t))
	cancel(errReason)
	_, err = worker.Start(ctx, writeLater, desk{Slate: s}, worker.Config{})
	require.ErrorIs(t, err, errReason)
	require.NoError(t, s.Close())
	require.Empty(t, proctest.Opened(before))
}

// A process that is killed takes its handles along.
func TestProcessIsKilledWithHandle(t *testing.T) {
	s := proctest.NewSlate("")
	defer s.Close()
	before := proctest.Descriptors()
	p := start(t, writeLater, desk{filepath.Join(t.TempDir(), "never"), s}, worker.Config{KillGrace: -1})
	p.Future().Interrupt(errReason)
	_, err := p.Future().Result(proctest.Within(t))
	require.True(t, errors.Is(err, errReason), err)
	finished(t, p)
	require.Empty(t, proctest.Opened(before))
}
