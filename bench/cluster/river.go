package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
)

// A riverTuning is what differs from a River as it comes.
type riverTuning struct {
	Cooldown time.Duration // how soon after the last time jobs are fetched, or told of; 0 is 100 ms
	Complete bool          // the worker's function completes its job; otherwise River does, four times a second
}

// riverArgs is the argument of a job: a number, or the address of a meeting.
type riverArgs struct {
	N       int    `json:"n,omitempty"`
	Address string `json:"address,omitempty"`
}

func (riverArgs) Kind() string { return "bench" }

// riverWorker runs jobs. The result of one is its recorded output.
type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	completing *pgxpool.Pool // nil if River completes the jobs
}

func (w riverWorker) Work(ctx context.Context, job *river.Job[riverArgs]) error {
	result := 0
	if a := job.Args.Address; a != "" {
		if err := remote.Attend(a); err != nil {
			return err
		}
	} else {
		result = remote.Next.Call(job.Args.N)
	}
	if err := river.RecordOutput(ctx, result); err != nil || w.completing == nil {
		return err
	}
	return pgx.BeginFunc(ctx, w.completing, func(tx pgx.Tx) error {
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serveRiver is a worker. It hears of new jobs from the database, and looks for some every second.
var serveRiver = executor.NewTask("bench.serve River", func(ctx context.Context, s serving) (int, error) {
	pool, err := pgxpool.New(ctx, s.URL)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	known := river.NewWorkers()
	w := riverWorker{}
	if s.Complete {
		w.completing = pool
	}
	river.AddWorker(known, w)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: s.Slots}},
		Workers:       known,
		FetchCooldown: s.Look,
		Logger:        quiet(),
	})
	if err != nil {
		return 0, err
	}
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	<-client.Stopped()
	return 0, nil
})

// A riverCaller inserts jobs and asks after their outputs. Nothing tells another process than the one that works
// a job that it is completed.
type riverCaller struct {
	client  *river.Client[pgx.Tx]
	inserts chan riverInsert

	mu   sync.Mutex
	open map[int64]bool // inserted, and not known to be completed
	done map[int64]int  // the results that nobody has collected yet
}

type riverInsert struct {
	args riverArgs
	id   chan int64
}

// inserting inserts what is there, many at a time where many are.
func (c *riverCaller) inserting() {
	for first := range c.inserts {
		all := []riverInsert{first}
		for len(c.inserts) > 0 {
			all = append(all, <-c.inserts)
		}
		params := make([]river.InsertManyParams, len(all))
		for i, one := range all {
			params[i].Args = one.args
		}
		inserted := must(c.client.InsertMany(bg, params))
		c.mu.Lock()
		for _, r := range inserted {
			c.open[r.Job.ID] = true
		}
		c.mu.Unlock()
		for i, r := range inserted {
			all[i].id <- r.Job.ID
		}
	}
}

func (c *riverCaller) submit(args riverArgs) (result func() int) {
	one := riverInsert{args, make(chan int64, 1)}
	c.inserts <- one
	return func() (result int) {
		id := <-one.id
		until(func() (ok bool) { result, ok = c.collect(id); return ok })
		return result
	}
}

// collect returns the result of a job, if it is completed. It asks after all of them together.
func (c *riverCaller) collect(id int64) (result int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.done[id]; !ok {
		c.ask()
	}
	result, ok = c.done[id]
	delete(c.done, id)
	return result, ok
}

// ask asks after all that are open. c is locked.
func (c *riverCaller) ask() {
	ids := slices.Collect(maps.Keys(c.open))
	if len(ids) == 0 {
		return
	}
	list := must(c.client.JobList(bg, river.NewJobListParams().IDs(ids...).First(len(ids)).
		States(rivertype.JobStateCompleted, rivertype.JobStateRetryable, rivertype.JobStateDiscarded, rivertype.JobStateCancelled)))
	for _, job := range list.Jobs {
		if job.State != rivertype.JobStateCompleted {
			panic(fmt.Sprintf("a job of River is %s: %v", job.State, job.Errors))
		}
		var result int
		check(json.Unmarshal(job.Output(), &result))
		c.done[job.ID] = result
		delete(c.open, job.ID)
	}
}

// openRiver has jobs of River.
func openRiver(tuning riverTuning) opener {
	return func(w remote.Work, dir string) remote.Crew {
		address, stop := startPostgres(dir)
		pool := must(pgxpool.New(bg, address))
		must(must(rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet()})).Migrate(bg, rivermigrate.DirectionUp, nil))
		end := workers(w, serveRiver, serving{URL: address, Look: tuning.Cooldown, Complete: tuning.Complete})
		c := &riverCaller{
			client:  must(river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet(), FetchCooldown: tuning.Cooldown})),
			inserts: make(chan riverInsert, 1024), open: map[int64]bool{}, done: map[int64]int{},
		}
		var wg sync.WaitGroup
		wg.Go(c.inserting)
		return remote.Crew{
			Call:   func(arg int) int { return c.submit(riverArgs{N: arg})() },
			Submit: func(arg int) func() int { return c.submit(riverArgs{N: arg}) },
			Attend: func(address string) func() int { return c.submit(riverArgs{Address: address}) },
			Close:  func() { close(c.inserts); wg.Wait(); end(); pool.Close(); stop() },
		}
	}
}
