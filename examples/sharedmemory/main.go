// Sharedmemory has processes work on the same memory: 64 MiB that each of them fills a part
// of, and a struct that each of them updates. The questions of the lecture: what does it save
// not to send large data, who sees to it that nothing is lost, and what cannot be shared?
//
//	go run ./examples/sharedmemory
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

const (
	processes = 4
	size      = 64 << 20 // bytes
	updates   = 10_000   // by each process
)

// A part is what one process is asked for.
type part struct {
	All      *ipc.Array[byte] // or nil
	Stats    *ipc.Value[stats]
	From, To int
}

// fill writes the words from/8, from/8+1, … into b; sum adds them up.
func fill(b []byte, from int) {
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(from+i)/8)
	}
}

func sum(b []byte) (sum uint64) {
	for i := 0; i < len(b); i += 8 {
		sum += binary.LittleEndian.Uint64(b[i:])
	}
	return sum
}

var fillHere = executor.NewTask("fillHere", func(ctx context.Context, p part) ([]byte, error) {
	fill(p.All.Slice()[p.From:p.To], p.From)
	return nil, nil
})

var fillAndSend = executor.NewTask("fillAndSend", func(ctx context.Context, p part) ([]byte, error) {
	b := make([]byte, p.To-p.From)
	fill(b, p.From)
	return b, nil
})

// stats are of the numbers that all processes have seen: one without the other is worth nothing.
type stats struct {
	Count, Sum int64
	Min, Max   int
}

var see = executor.NewTask("see", func(ctx context.Context, p part) ([]byte, error) {
	for n := p.From; n < p.To; n++ {
		err := p.Stats.Update(ctx, func(s *stats) {
			*s = stats{s.Count + 1, s.Sum + int64(n), min(s.Min, n), max(s.Max, n)}
		})
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
})

func main() {
	worker.Main() // a worker process stays in here
	ctx := context.Background()
	pool := must(processpool.New(processpool.Config{Workers: processes}))
	defer pool.Close()

	all := must(ipc.NewArray[byte](size))
	defer all.Close()
	run(ctx, pool, fillAndSend, part{To: 8 * processes}) // so that the processes are started
	want := uint64(size/8) * (size/8 - 1) / 2

	start := time.Now()
	run(ctx, pool, fillHere, part{All: all, To: size})
	took := time.Since(start)
	show("64 MiB, filled by 4 processes in place", took.Round(time.Microsecond))
	show("the sum is as calculated", sum(all.Slice()) == want)

	start = time.Now()
	sent := run(ctx, pool, fillAndSend, part{To: size})
	took = time.Since(start)
	show("64 MiB, filled by 4 processes and sent", took.Round(time.Microsecond))
	var got uint64
	for _, b := range sent {
		got += sum(b)
	}
	show("the sum is as calculated", got == want)

	shared := must(ipc.NewValue(stats{Min: math.MaxInt}))
	defer shared.Close()
	run(ctx, pool, see, part{Stats: shared, To: updates * processes})
	s := shared.Load()
	show("a struct updated by them: count, average", s.Count, float64(s.Sum)/float64(s.Count))
	show("min, max", s.Min, s.Max)

	_, err := ipc.NewValue(struct {
		Count int
		Label string
	}{})
	show("a struct that cannot be shared", err)
}

// run has each process do its part of all.
func run(ctx context.Context, pool *processpool.Pool, t executor.Task[part, []byte], all part) [][]byte {
	parts := make([]part, processes)
	for i := range parts {
		parts[i] = all
		parts[i].From, parts[i].To = i*all.To/processes, (i+1)*all.To/processes
	}
	return must(future.All(ctx, executor.SubmitAll(ctx, pool, t, parts)...))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal("sharedmemory: ", err)
	}
	return v
}

func show(what string, got ...any) { fmt.Printf("%-46s %s", what, fmt.Sprintln(got...)) }
