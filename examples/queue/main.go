// Queue has producers and consumers in processes of their own, and kills one of them. The
// questions of the lecture: what is in the queue when whoever put it is gone at once? All of
// it; in Python a thread may still have had it. What is lost with a consumer that is killed?
// What it had in its hands, which others can tell; the rest is for them.
//
//	go run ./examples/queue
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/worker"
)

// A job is an item with something to it.
type job struct {
	Number int
	Data   [1024]byte
}

type producing struct {
	Jobs     *ipc.Queue[job]
	From, To int
	Exit     bool // at once, when the last one is put
}

var produce = executor.NewTask("produce", func(ctx context.Context, p producing) (struct{}, error) {
	for n := p.From; n < p.To; n++ {
		if err := p.Jobs.Put(ctx, job{Number: n}); err != nil {
			return struct{}{}, err
		}
	}
	if p.Exit {
		os.Exit(0) // Python's os._exit
	}
	return struct{}{}, nil
})

type consuming struct {
	Jobs  *ipc.Queue[job]
	Notes *ipc.Queue[note]
	Each  time.Duration // that it takes
}

// A note says which process has begun, or done, a job.
type note struct {
	PID, Number int
	Done        bool
}

var consume = executor.NewTask("consume", func(ctx context.Context, c consuming) (done int, err error) {
	for ; ; done++ {
		j, err := c.Jobs.Get(ctx)
		if errors.Is(err, io.EOF) {
			return done, nil
		} else if err != nil {
			return done, err
		}
		err = c.Notes.Put(ctx, note{os.Getpid(), j.Number, false})
		time.Sleep(c.Each)
		err = errors.Join(err, c.Notes.Put(ctx, note{os.Getpid(), j.Number, true}), c.Jobs.TaskDone())
		if err != nil {
			return done, err
		}
	}
})

func main() {
	worker.Main() // a worker process stays in here
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	gone(ctx)
	fmt.Println()
	killed(ctx)
}

func show(what string, got ...any) { fmt.Printf("%-52s %s", what, fmt.Sprintln(got...)) }

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal("queue: ", err)
	}
	return v
}

// gone has a putter end at once, without a look back.
func gone(ctx context.Context) {
	q := must(ipc.NewQueue[job](1000))
	p := must(worker.Start(ctx, produce, producing{q, 0, 1000, true}, worker.Config{}))
	show("1000 times q.put(job); os._exit(0); p.join()", p.Join(ctx))
	show("q.qsize()", q.Len())
	sum := 0
	for range 1000 {
		sum += must(q.Get(ctx)).Number
	}
	show("1000 times q.get(): the sum of 0 to 999", sum)
}

// killed has two producers and three consumers, of which one is killed.
func killed(ctx context.Context) {
	const jobs = 100
	c := consuming{Jobs: must(ipc.NewQueue[job](jobs)), Notes: must(ipc.NewQueue[note](3 * jobs))}
	first := must(worker.Start(ctx, produce, producing{c.Jobs, 0, jobs / 2, false}, worker.Config{}))
	second := must(worker.Start(ctx, produce, producing{c.Jobs, jobs / 2, jobs, false}, worker.Config{}))

	// One consumer takes a job, and an hour for it.
	victim := must(worker.Start(ctx, consume, consuming{c.Jobs, c.Notes, time.Hour}, worker.Config{}))
	held := must(c.Notes.Get(ctx))
	show("a consumer has taken a job of two producers", held.PID == victim.PID())
	must(first.Future().Result(ctx))
	must(second.Future().Result(ctx))
	must(0, errors.Join(victim.Kill(), victim.Join(ctx)))
	code, _ := victim.ExitCode()
	show("it is killed: p.exitcode", code)
	show("q.qsize()", c.Jobs.Len(), "of", jobs)

	// Its job is put again, and that one is done in its name: join would wait for it.
	must(0, errors.Join(c.Jobs.Put(ctx, job{Number: held.Number}), c.Jobs.TaskDone()))
	others := []*worker.Process[int]{
		must(worker.Start(ctx, consume, c, worker.Config{})),
		must(worker.Start(ctx, consume, c, worker.Config{})),
	}
	show("q.join(), with that job put again", c.Jobs.Join(ctx))
	show("q.shutdown()", c.Jobs.Shutdown())
	sum := must(others[0].Future().Result(ctx)) + must(others[1].Future().Result(ctx))
	show("two others got io.EOF, and have done", sum)
	done := map[int]bool{}
	for c.Notes.Len() > 0 {
		if n := must(c.Notes.Get(ctx)); n.Done {
			done[n.Number] = true
		}
	}
	show("different jobs among them", len(done))
}
