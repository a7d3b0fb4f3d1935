package main

import (
	"context"
	"slices"

	"example.com/futures/bench/remote"
	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/executor"
)

// The tasks that the workers of a cluster run.
var (
	nextTask   = executor.NewTask("bench.next", func(_ context.Context, n int) (int, error) { return remote.Next.Call(n), nil })
	echoTask   = executor.NewTask("bench.echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
	attendTask = executor.NewTask("bench.attend", func(_ context.Context, address string) (int, error) {
		return 0, remote.Attend(address)
	})
)

// serveOurs is a worker process of a pool.
var serveOurs = executor.NewTask("bench.serve ours", func(ctx context.Context, s serving) (int, error) {
	return 0, clusterpool.Serve(ctx, clusterpool.ServeConfig{URL: s.URL, Name: s.Name, Slots: s.Slots})
})

func init() { kinds["ours"] = openOurs }

// openOurs has a server in this process, which keeps everything in memory, and workers that are processes.
func openOurs(w remote.Work, _ string) remote.Crew {
	const name = "bench"
	server := must(embed.Start(bg, embed.Config{}))
	p := must(clusterpool.New(bg, clusterpool.Config{URL: server.URL(), Name: name, Memory: true}))
	end := workers(w, serveOurs, serving{URL: server.URL(), Name: name})
	submit := func(arg int) func() int {
		f := executor.Submit(bg, p, nextTask, arg)
		return func() int { return must(f.Result(bg)) }
	}
	return remote.Crew{
		Call:   func(arg int) int { return submit(arg)() },
		Submit: submit,
		Fan: func(args, out []int) { // of a map; a window makes its own of Submit
			i := 0
			for v, err := range executor.Map(bg, p, nextTask, slices.Values(args), executor.WithChunk(w.Chunk)) {
				check(err)
				out[i] = v
				i++
			}
		},
		Echo: func(payload []byte) func() []byte {
			f := executor.Submit(bg, p, echoTask, payload)
			return func() []byte { return must(f.Result(bg)) }
		},
		Attend: func(address string) func() int {
			f := executor.Submit(bg, p, attendTask, address)
			return func() int { return must(f.Result(bg)) }
		},
		Close: func() { check(p.Close()); end(); check(server.Close()) },
	}
}
