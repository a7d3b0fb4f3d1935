package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/executor"
)

// lease is how long a worker may be silent before its calls are given to others. The
// library's own is 10 s: here the death of one is to show soon.
const lease = 2 * time.Second

// retries is how often a call is begun again whose worker is lost. To check a number twice
// does no harm.
const retries = 3

var task = executor.NewTask("isPrime", func(ctx context.Context, n int64) (answer, error) {
	prime, err := isPrime(ctx, n)
	host, _ := os.Hostname() // only a label
	return answer{prime, host, os.Getpid()}, err
})

// An answer is what a worker has found, and which one it is.
type answer struct {
	Prime bool
	Host  string
	PID   int
}

// isPrime reports whether n is prime, by trial division. Now and then it looks at
// ctx, so that an interrupted call ends soon.
func isPrime(ctx context.Context, n int64) (bool, error) {
	if n < 4 || n%2 == 0 {
		return n == 2 || n == 3, nil
	}
	const lookEvery = 1 << 14 // divisions: some 30 µs
	for i, d := 1, int64(3); d <= n/d; i, d = i+1, d+2 {
		if n%d == 0 {
			return false, nil
		}
		if i%lookEvery == 0 && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return true, nil
}

// A job is what a worker process is told. It goes there as an argument of a task, and not
// on a command line, for the URL has a password in it.
type job struct {
	URL, Name string
	Slots     int
}

func (c config) job() job { return job{c.url, c.name, c.slots} }

// serve is a worker: it takes calls from the queue and runs them, until ctx ends. What it
// runs then goes back to the queue.
func serve(ctx context.Context, j job) (struct{}, error) {
	return struct{}{}, clusterpool.Serve(ctx, clusterpool.ServeConfig{
		URL: j.URL, Name: j.Name, Slots: j.Slots, Lease: lease, Grace: -1,
	})
}

var serveTask = executor.NewTask("serve", serve)

// check has the numbers checked and notes in rep what comes of it. If ctx ends, or a call
// fails, what has been done by then is in there.
func (c config) check(ctx context.Context, rep *report, stderr io.Writer) (err error) {
	embedded := c.url == ""
	if embedded {
		s, err := embed.Start(ctx, embed.Config{})
		if err != nil {
			return err
		}
		defer s.Close()
		c.url = s.URL()
	}
	own := &team{report: rep, stderr: stderr}
	p, err := clusterpool.New(ctx, clusterpool.Config{URL: c.url, Name: c.name, Memory: embedded, Lease: lease, Observer: own})
	if err != nil {
		return err
	}
	defer own.dismiss() // after the pool was closed, whose last calls they end
	defer func() {
		rep.stats = p.Stats()
		p.Close()
	}()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := own.hire(c, func(err error) {
		if embedded { // nobody else will come
			stop(err)
		}
	}); err != nil {
		return err
	}
	if !embedded {
		hint := time.AfterFunc(lease, func() {
			if p.Stats().Workers == 0 {
				fmt.Fprintln(stderr, "there is no worker yet: start this program with -worker, too")
			}
		})
		defer hint.Stop()
	}

	start := time.Now()
	defer func() { rep.elapsed = time.Since(start) }()
	for item, err := range executor.MapUnordered(ctx, p, task, slices.Values(c.numbers), executor.WithRetries(retries)) {
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("%d: %w", item.Arg, err)
		}
		if done := rep.add(item.Index, item.Value); 4*done/len(c.numbers) > 4*(done-1)/len(c.numbers) {
			fmt.Fprintf(stderr, "%d of %d\n", done, len(c.numbers))
			if c.kill {
				own.killOne()
			}
		}
	}
	return nil
}
