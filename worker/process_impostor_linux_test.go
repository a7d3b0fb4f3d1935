package worker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/internal/wire"
	"example.com/futures/worker"
)

// impostor is a process that greets as a worker does, and then misbehaves.
func impostor(how string) error {
	socket := os.NewFile(3, "parent")
	out, in := wire.NewWriter(socket), wire.NewReader(socket, 1<<30, false)
	send := func(h wire.Header, payload []byte) error { return errors.Join(out.Add(h, payload), out.Flush()) }
	err := send(wire.Header{Kind: wire.KindHello, Seq: wire.Magic, Item: wire.Version}, new(wire.Hello).Append(nil))
	if err == nil {
		_, err = in.Next() // the setup
	}
	if err != nil {
		return err
	}
	if how == "frozen" {
		proctest.Announce(os.Args[2])
		time.Sleep(lifetime) // it is killed before
	}
	for range 2 { // the call and its argument
		if _, err := in.Next(); err != nil {
			return err
		}
	}
	go silence(socket)
	switch how {
	case "another call":
		err = send(wire.Header{Kind: wire.KindResult, Seq: 2}, nil)
	case "another item":
		err = send(wire.Header{Kind: wire.KindResult, Seq: 1, Item: 1}, nil)
	case "another kind":
		err = send(wire.Header{Kind: wire.KindHello, Seq: 1}, nil)
	case "skipped":
		err = send(wire.Header{Kind: wire.KindSkipped, Seq: 1}, nil)
	case "no stream":
		err = send(wire.Header{Kind: wire.KindResult, Seq: 1}, []byte{1, 2, 3})
	case "too large":
		_, err = socket.Write(wire.Append(nil, wire.Header{Kind: wire.KindResult, Seq: 1}, make([]byte, 12<<20)))
	case "half a frame":
		_, err = socket.Write(wire.Append(nil, wire.Header{Kind: wire.KindResult, Seq: 1}, make([]byte, 100))[:60])
		_ = syscall.Shutdown(3, syscall.SHUT_WR)
	case "hangs up":
		_ = syscall.Shutdown(3, syscall.SHUT_RDWR)
	case "text":
		value, flags, _ := wire.NewEncoder(1 << 10).Message(func(e *wire.Encoder) error { return e.Encode(&wire.Box[string]{V: "two"}) })
		err = send(wire.Header{Kind: wire.KindResult, Seq: 1, Flags: flags}, value.Bytes())
	}
	if err != nil {
		return err
	}
	time.Sleep(lifetime) // it is killed before
	return nil
}

// lifetime is how long an impostor goes on if nobody kills it, since it does not notice
// its parent's death. That is far more than a test needs.
const lifetime = 5 * time.Minute

// asImpostor is a command that runs this binary as an impostor.
func asImpostor(t *testing.T, args ...string) []string {
	exe, err := os.Executable()
	require.NoError(t, err)
	return append([]string{"sh", "-c", `unset FUTURES_WORKER_DEPTH; exec "$0" "$@"`, exe}, args...)
}

// A process that does not keep to the protocol is killed, and its call says why.
func TestProcessBreaksProtocol(t *testing.T) {
	for how, want := range map[string]string{
		"another call": "nobody waits for",
		"another item": "nobody waits for",
		"another kind": "a frame of kind",
		"skipped":      "a frame of kind",
		"no stream":    "has not started",
		"too large":    "over the limit",
		"half a frame": "while it wrote an answer",
		"hangs up":     "killed",
	} {
		t.Run(how, func(t *testing.T) {
			t.Setenv("FUTURES_TEST_ROLE", "impostor")
			p := start(t, double, 1, worker.Config{Command: asImpostor(t, how), MaxMessage: 1 << 20})
			err := p.Future().Exception(proctest.Within(t))
			var lost *executor.WorkerLostError
			require.ErrorAs(t, err, &lost)
			require.Equal(t, syscall.SIGKILL, lost.Signal)
			require.ErrorContains(t, lost.Cause, want)
			require.Equal(t, -int(syscall.SIGKILL), finished(t, p))
		})
	}
}

// A result that cannot be read is the call's error. A process that goes on after its
// answer is killed.
func TestProcessAnswersAndGoesOn(t *testing.T) {
	t.Setenv("FUTURES_TEST_ROLE", "impostor")
	p := start(t, double, 1, worker.Config{Command: asImpostor(t, "text")})
	require.ErrorContains(t, p.Future().Exception(proctest.Within(t)), "decoding the result")
	require.Equal(t, -int(syscall.SIGKILL), finished(t, p))
}

// A process that takes nothing does not keep Start for longer than the call's context
// and the grace.
func TestStartOfAFrozenProcess(t *testing.T) {
	t.Setenv("FUTURES_TEST_ROLE", "impostor")
	path := filepath.Join(t.TempDir(), "frozen")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		_, _ = proctest.Await(ctx, path)
		cancel(errReason)
	}()
	p, err := worker.Start(ctx, sum, make([]byte, 8<<20), worker.Config{Command: asImpostor(t, "frozen", path), KillGrace: 10 * time.Millisecond})
	if err != nil { // the context has ended before the greeting was over
		require.ErrorIs(t, err, errReason)
		return
	}
	err = p.Future().Exception(proctest.Within(t))
	require.ErrorAs(t, err, new(*executor.WorkerLostError))
	require.ErrorIs(t, err, errReason)
	require.Equal(t, -int(syscall.SIGKILL), finished(t, p))
}
