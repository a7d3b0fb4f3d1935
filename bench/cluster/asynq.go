package main

import (
	"context"
	"time"

	"github.com/hibiken/asynq"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
)

// quickAsynq is how often a worker looks for calls that would look every second.
const quickAsynq = time.Millisecond

// The types of asynq's tasks, and its queue.
const (
	nextType   = "next"
	attendType = "attend"
	queueName  = "default"
)

// serveAsynq is a worker. The result of a task is what it writes to its ResultWriter.
var serveAsynq = executor.NewTask("bench.serve asynq", func(ctx context.Context, s serving) (int, error) {
	to, err := asynq.ParseRedisURI(s.URL)
	if err != nil {
		return 0, err
	}
	server := asynq.NewServer(to, asynq.Config{Concurrency: s.Slots, TaskCheckInterval: s.Look, LogLevel: asynq.FatalLevel})
	mux := asynq.NewServeMux()
	mux.HandleFunc(nextType, func(_ context.Context, t *asynq.Task) error {
		_, err := t.ResultWriter().Write(toBytes(remote.Next.Call(fromBytes(t.Payload()))))
		return err
	})
	mux.HandleFunc(attendType, func(_ context.Context, t *asynq.Task) error {
		if err := remote.Attend(string(t.Payload())); err != nil {
			return err
		}
		_, err := t.ResultWriter().Write(toBytes(0))
		return err
	})
	if err := server.Start(mux); err != nil {
		return 0, err
	}
	<-ctx.Done()
	server.Shutdown()
	return 0, nil
})

// openAsynq has tasks of asynq, whose workers look for some so often. Nothing tells the caller that a task has
// completed: he asks its Inspector.
func openAsynq(look time.Duration) opener {
	return func(w remote.Work, dir string) remote.Crew {
		address, stop := startRedis(dir)
		end := workers(w, serveAsynq, serving{URL: address, Look: look})
		to := must(asynq.ParseRedisURI(address))
		client, inspector := asynq.NewClient(to), asynq.NewInspector(to)
		submit := func(kind string, payload []byte) func() int {
			// Many are handed over side by side; only the oldest is asked after.
			id := later(func() string {
				t := asynq.NewTask(kind, payload)
				return must(client.Enqueue(t, asynq.Queue(queueName), asynq.Retention(time.Hour))).ID
			})
			return func() int { return resultOf(inspector, id()) }
		}
		return remote.Crew{
			Call:   func(arg int) int { return submit(nextType, toBytes(arg))() },
			Submit: func(arg int) func() int { return submit(nextType, toBytes(arg)) },
			Attend: func(address string) func() int { return submit(attendType, []byte(address)) },
			Close:  func() { check(inspector.Close()); check(client.Close()); end(); stop() },
		}
	}
}

// resultOf asks after a task until it has a result.
func resultOf(inspector *asynq.Inspector, id string) (result int) {
	until(func() bool {
		info := must(inspector.GetTaskInfo(queueName, id))
		if info.LastErr != "" {
			panic("a task of asynq has failed: " + info.LastErr)
		}
		if info.State != asynq.TaskStateCompleted {
			return false
		}
		result = fromBytes(info.Result)
		return true
	})
	return result
}
