//go:build linux

package processpool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// Where things are in the memory that a worker shares with its parent, as internal/ring
// lays it out.
const (
	callsHeadAt    = 0 * 64
	answersReadAt  = 1 * 64
	answersBigAt   = answersReadAt + 8
	answersHeadAt  = 2 * 64
	callsReadAt    = 3 * 64
	workerAsleepAt = 4 * 64
	parentAsleepAt = 5 * 64
	slotsAt        = 4096
	slotLen        = 16
	answersAt      = slotsAt + ring.Slots*slotLen + ring.Len
	arenaAt        = ring.Size - ring.ArenaLen // of answers
)

// A poke is bytes that are written to that memory, or a word.
type poke struct {
	At    int
	Bytes []byte // nil: Word
	Word  uint64
}

// pokeAll writes to the memory that this process, a worker, shares with its parent.
func pokeAll(pokes []poke) error {
	mem, err := shared()
	if err != nil {
		return err
	}
	for _, p := range pokes {
		if p.Bytes != nil {
			copy(mem[p.At:], p.Bytes)
		} else {
			atomic.StoreUint64((*uint64)(unsafe.Pointer(&mem[p.At])), p.Word)
		}
	}
	return nil
}

// shared finds that memory.
func shared() ([]byte, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.Contains(line, "memfd:futures-worker") {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err != nil {
			return nil, err
		}
		if to-from != ring.Size {
			return nil, fmt.Errorf("a mapping of %d bytes", to-from)
		}
		return unsafe.Slice(*(**byte)(unsafe.Pointer(&from)), ring.Size), nil
	}
	return nil, errors.New("no memory is shared")
}

// record is an answer as it stands in the ring.
func record(kind wire.Kind, flags uint8, tag uint16, payload []byte) []byte {
	return append(recordHead(kind, flags, tag, len(payload)), append(payload, make([]byte, -len(payload)&7)...)...)
}

func recordHead(kind wire.Kind, flags uint8, tag uint16, n int) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(uint32(n))|uint64(kind)<<32|uint64(flags)<<40|uint64(tag)<<48)
}

// publish publishes records, the first ones of the worker.
func publish(records ...[]byte) []poke {
	b := bytes.Join(records, nil)
	return []poke{{At: answersAt, Bytes: b}, {At: answersHeadAt, Word: uint64(len(b))}}
}

// claimed publishes a record, and that n bytes are there.
func claimed(n uint64, record []byte) []poke {
	return []poke{{At: answersAt, Bytes: record}, {At: answersHeadAt, Word: n}}
}

// large publishes an answer in the arena.
func large(flags uint8, ref ring.Ref, payload []byte) []poke {
	return append([]poke{{At: arenaAt, Bytes: append([]byte{}, payload...)}}, publish(record(wire.KindResult, flags|wire.FlagLarge, 2, ref.Append(nil)))...)
}

// bell wakes the parent's reader.
var bell = wire.Append(nil, wire.Header{Kind: wire.KindBell}, nil)

// claimOf is the word that says whose a call is, and begunOf the one behind it.
func claimOf(seq int) int { return slotsAt + seq%ring.Slots*slotLen }
func begunOf(seq int) int { return claimOf(seq) + 8 }

const cannotBe = "the shared memory holds what cannot be"

// What the parent finds in the memory that it shares with a worker it believes as little
// as what comes through the socket, see TestHostileWorker. // DEA-15
func TestHostileMemory(t *testing.T) {
	for name, tt := range nonsense() {
		t.Run(name, func(t *testing.T) {
			isBetrayed(t, tt.call, betrayal{large(tt.flags, ring.Ref{Len: uint64(len(tt.payload))}, tt.payload), bell, "", ""}, tt.want)
		})
		if len(tt.payload) <= wire.MostInline {
			t.Run(name+", inline", func(t *testing.T) {
				isBetrayed(t, tt.call, betrayal{publish(record(wire.KindResult, tt.flags, 2, tt.payload)), bell, "", ""}, tt.want)
			})
		}
	}
	result := record(wire.KindResult, wire.FlagPlain, 2, make([]byte, 8))
	for name, tt := range map[string]struct {
		pokes []poke
		want  string
	}{
		"a record longer than the ring":     {claimed(16, recordHead(wire.KindResult, wire.FlagPlain, 2, math.MaxUint32)), cannotBe},
		"a record longer than is published": {claimed(16, recordHead(wire.KindResult, wire.FlagPlain, 2, 64)), cannotBe},
		"less than a record":                {claimed(8, result), cannotBe},
		"a head that runs ahead":            {claimed(ring.Len+8, result), cannotBe},
		"a head that runs far ahead":        {claimed(1<<63, result), cannotBe},
		"a head that goes back":             {claimed(math.MaxUint64-7, result), cannotBe},
		"a head between records":            {claimed(12, result), cannotBe},
		"a ring of padding":                 {claimed(ring.Len, recordHead(0, 0, 0, ring.Len-8)), cannotBe},
		"nothing, but published":            {claimed(ring.Len, make([]byte, 8)), cannotBe},
		"a kind that there is not":          {publish(record(200, 0, 2, nil)), "an answer of kind 200"},
		"a parent's record":                 {publish(record(wire.KindCall, 0, 2, nil)), "an answer of kind 3"},
		"a bell in the ring":                {publish(record(wire.KindBell, 0, 2, nil)), "an answer of kind 11"},
		"an answer to another call":         {publish(record(wire.KindResult, wire.FlagPlain, 77, make([]byte, 8))), "to call 77, which nobody waits for"},
		"an answer to the call before":      {publish(record(wire.KindSkipped, 0, 1, nil)), "to call 1, which nobody waits for"},
		"an answer to the next call":        {publish(record(wire.KindResult, wire.FlagPlain, 3, make([]byte, 8))), "to call 3, which nobody waits for"},
		"skipped, for no reason":            {publish(record(wire.KindSkipped, 0, 2, nil)), "was skipped without being interrupted"},
		"taken up twice":                    {publish(record(wire.KindStarted, 0, 2, nil), record(wire.KindStarted, 0, 2, nil)), "call 2 was taken up twice"},
		"a ref out of the arena":            {large(wire.FlagPlain, ring.Ref{Off: ring.ArenaLen + 1}, nil), "a large answer that is nowhere"},
		"a ref to what begins in the arena": {large(wire.FlagPlain, ring.Ref{Off: ring.ArenaLen - 8, Len: 9}, nil), "a large answer that is nowhere"},
		"a ref that wraps":                  {large(wire.FlagPlain, ring.Ref{Off: math.MaxUint64 - 7, Len: 16}, nil), "a large answer that is nowhere"},
		"a ref of 2^64-1 bytes":             {large(wire.FlagPlain, ring.Ref{Off: 8, Len: math.MaxUint64}, nil), "a large answer that is nowhere"},
		"a ref to all of the arena":         {large(wire.FlagPlain, ring.Ref{Len: ring.ArenaLen}, nil), "an answer of 268435456 bytes is over the limit of"},
		"a ref of 8 bytes":                  {publish(record(wire.KindResult, wire.FlagPlain|wire.FlagLarge, 2, make([]byte, 8))), "a large answer that is nowhere"},
		"a ref of 24 bytes":                 {publish(record(wire.KindResult, wire.FlagPlain|wire.FlagLarge, 2, make([]byte, 24))), "a large answer that is nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			isBetrayed(t, apply(betrayText), betrayal{tt.pokes, bell, "", ""}, tt.want)
		})
	}
}

// A worker that has answered its call as it should, and then goes wrong, is killed too,
// and the answer counts.
func TestHostileAfterwards(t *testing.T) {
	result := record(wire.KindResult, wire.FlagPlain, 2, make([]byte, 8))
	for name, pokes := range map[string][]poke{
		"padding in the middle":  claimed(32, append(bytes.Clone(result), recordHead(0, 0, 0, 8)...)),
		"half a record":          claimed(24, append(bytes.Clone(result), result...)),
		"another answer":         publish(result, result),
		"an answer to the next":  publish(result, record(wire.KindResult, wire.FlagPlain, 3, make([]byte, 8))),
		"skipped":                publish(result, record(wire.KindSkipped, 0, 2, nil)),
		"an item there is not":   publish(result, record(wire.KindStarted, 0, 2, nil)),
		"a head that runs ahead": claimed(1<<40, result),
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, processpool.Config{Workers: 1, Worker: hushed})
			err := apply(betrayInt)(within(t), p, betrayal{pokes, bell, "", "hang"})
			if name == "a head that runs ahead" {
				require.ErrorContains(t, err, cannotBe) // of a head that is wrong nothing is believed
			} else {
				require.NoError(t, err)
			}
			goesOn(t, p)
			require.Equal(t, uint64(1), p.Stats().WorkersLost)
		})
	}
}

// A plain value that has not the length of its type is the call's own error, as any other
// that does not decode: the stream does not depend on it.
func TestHostilePlain(t *testing.T) {
	for _, n := range []int{0, 3, 7, 9, 16, wire.MostInline} {
		p := open(t, processpool.Config{Workers: 1, Worker: hushed})
		err := apply(betrayInt)(within(t), p, betrayal{publish(record(wire.KindResult, wire.FlagPlain, 2, make([]byte, n))), bell, "", "die"})
		require.EqualError(t, err, fmt.Sprintf(`executor: task "betrayInt": decoding the result: wire: %d bytes for int, which takes 8`, n))
		goesOn(t, p)
	}
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	err := apply(betrayKnot)(within(t), p, betrayal{publish(record(wire.KindResult, wire.FlagPlain, 2, make([]byte, 8))), bell, "", "die"})
	require.ErrorContains(t, err, "a plain value for a type that is not plain")
	goesOn(t, p)
}

// What a worker writes where only its parent should, and about whom sleeps, harms itself
// at most: its call, which goes on for ever then, can be ended, and other calls run
// elsewhere.
func TestHostileWords(t *testing.T) {
	for name, pokes := range map[string][]poke{
		"nothing":                  {},
		"the parent's positions":   {{At: callsHeadAt, Word: 1 << 50}, {At: answersReadAt, Word: 12345}, {At: answersBigAt, Word: 999}},
		"who sleeps":               {{At: workerAsleepAt, Word: math.MaxUint64}, {At: parentAsleepAt, Word: math.MaxUint64}},
		"nobody's call":            {{At: claimOf(2)}, {At: begunOf(2)}},
		"another call's claim":     {{At: claimOf(2), Word: 1026<<2 | 2}, {At: begunOf(2), Word: math.MaxUint64}},
		"more items than it has":   {{At: begunOf(2), Word: 2<<32 | math.MaxUint32}},
		"all claims":               {{At: slotsAt, Bytes: bytes.Repeat([]byte{0xff}, ring.Slots*slotLen)}},
		"no claims":                {{At: slotsAt, Bytes: make([]byte, ring.Slots*slotLen)}},
		"a frame that never comes": publish(record(wire.KindResult, wire.FlagPlain|wire.FlagSocket, 2, nil)),
	} {
		for _, how := range []string{"interrupt", "time limit", "close"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				ctx := within(t)
				limit := time.Duration(0)
				if how == "time limit" {
					if strings.Contains(name, "claim") || name == "nobody's call" {
						t.Skip("the time of a call that was not taken up does not begin")
					}
					limit = 50 * time.Millisecond
				}
				p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{KillGrace: 10 * time.Millisecond, Output: hushed.Output}})
				path := filepath.Join(t.TempDir(), "here")
				f := executor.Submit(ctx, p, betrayInt, betrayal{pokes, bell, path, "hang"}, executor.WithTimeout(limit))
				_, err := await(ctx, path)
				require.NoError(t, err)
				processpool.Quicken(p)
				next := executor.SubmitAll(ctx, p, double, make([]int, 50))
				want := errReason
				switch how {
				case "interrupt":
					require.True(t, f.Interrupt(errReason))
				case "time limit":
					want = executor.ErrTimeout
				case "close":
					want = executor.ErrShutdown
					require.NoError(t, p.Close())
				}
				<-f.Done() // nobody attends but the reader
				require.ErrorIs(t, f.Exception(ctx), want)
				for _, f := range next {
					if err := f.Exception(ctx); how == "close" {
						require.ErrorIs(t, err, executor.ErrShutdown)
					} else {
						require.NoError(t, err)
					}
				}
			})
		}
	}
}

// A worker that denies that it has taken a call up, and dies with it, is one that died
// with the call on its way: the third one has lost it.
func TestHostileClaim(t *testing.T) {
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	err := apply(betrayInt)(within(t), p, betrayal{Pokes: []poke{{At: claimOf(2)}}, Then: "die"})
	var lost *executor.WorkerLostError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, 3, lost.ExitCode)
	require.Equal(t, uint64(3), p.Stats().WorkersLost)
	goesOn(t, p)
}

// A worker that says that it has read calls that were not sent is killed when its parent
// needs the room. What was sent ahead to it, and what was not sent for lack of room, runs
// elsewhere.
func TestHostileReadPosition(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	path := filepath.Join(t.TempDir(), "here")
	f := executor.Submit(ctx, p, betrayInt, betrayal{Pokes: []poke{{At: callsReadAt, Word: 1 << 40}}, Path: path, Then: "hang"})
	_, err := await(ctx, path)
	require.NoError(t, err)
	processpool.Quicken(p)
	fs := executor.SubmitAll(ctx, p, echo, slices.Repeat([][]byte{make([]byte, wire.MostInline)}, 200))
	var lost *executor.WorkerLostError
	require.ErrorAs(t, f.Exception(ctx), &lost)
	require.ErrorContains(t, lost.Cause, "killed for breaking the protocol: ring: "+cannotBe)
	require.Equal(t, syscall.SIGKILL, lost.Signal)
	for _, f := range fs {
		require.NoError(t, f.Exception(ctx))
	}
	require.Equal(t, uint64(1), p.Stats().WorkersLost)
}

// Answers to items of a chunk that did not fit into the ring yet are refused: their
// arguments may just be read. No worker has begun with those: they run elsewhere.
func TestHostileHaste(t *testing.T) {
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	const n = 100
	all := slices.Repeat([][]byte{record(wire.KindResult, wire.FlagPlain, 2, make([]byte, 8))}, n)
	args := slices.Repeat([]betrayal{{Then: strings.Repeat("nothing ", wire.MostInline/8-100)}}, n)
	args[0] = betrayal{Pokes: publish(all...), Bytes: bell, Then: "hang"}
	items := 0
	for _, err := range executor.Map(within(t), p, betrayInt, slices.Values(args), executor.WithChunk(n)) {
		require.NoError(t, err)
		items++
	}
	require.Equal(t, n, items)
	require.Equal(t, uint64(1), p.Stats().WorkersLost)
	goesOn(t, p)
}
