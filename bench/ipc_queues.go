package main

import (
	"context"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
	"example.com/futures/ipc"
)

// The names of ours.
const (
	oursQueue = "ipc.Queue"
	oursPipe  = "ipc.Pipe"
)

// queueCapacity is that of a queue that streams.
const queueCapacity = 1024

// Two queues, one each way, and the two ends of a pipe.
type queues struct{ There, Back *ipc.Queue[int] }

// A flood is a pipe's sending end, and the size of its messages.
type flood struct {
	Conn  *ipc.Conn[[]byte]
	Bytes int
}

// What the other process does.
var (
	fillQueue = executor.NewTask("bench.fill queue", func(_ context.Context, q *ipc.Queue[int]) (int, error) {
		for n := 0; ; n++ {
			check(q.Put(bg, n))
		}
	})
	answerQueue = endless("queues", func(q queues) {
		check(q.Back.Put(bg, must(q.There.Get(bg))+1))
	})
	fillPipe = executor.NewTask("bench.fill pipe", func(_ context.Context, c *ipc.Conn[int]) (int, error) {
		for n := 0; ; n++ {
			check(c.Send(bg, n))
		}
	})
	answerPipe = endless("pipe", func(c *ipc.Conn[int]) {
		check(c.Send(bg, must(c.Recv(bg))+1))
	})
	floodPipe = executor.NewTask("bench.flood pipe", func(_ context.Context, f flood) (int, error) {
		payload := make([]byte, f.Bytes)
		for n := 0; ; n++ {
			number(payload, n)
			check(f.Conn.Send(bg, payload))
		}
	})
)

func openQueueStream(remote.Work) remote.Crew {
	q := must(ipc.NewQueue[int](queueCapacity))
	end := partner(fillQueue, q)
	return remote.Crew{
		Take:  func() int { return must(q.Get(bg)) },
		Close: func() { end(); check(q.Close()) },
	}
}

func openQueues(remote.Work) remote.Crew {
	q := queues{must(ipc.NewQueue[int](1)), must(ipc.NewQueue[int](1))}
	end := partner(answerQueue, q)
	return remote.Crew{
		Call: func(arg int) int {
			check(q.There.Put(bg, arg))
			return must(q.Back.Get(bg))
		},
		Close: func() { end(); check(q.There.Close()); check(q.Back.Close()) },
	}
}

// pipeOf returns the ends of a pipe: the first is for this process.
func pipeOf[T any](duplex bool) (mine, others *ipc.Conn[T]) {
	mine, others, err := ipc.Pipe[T](duplex)
	check(err)
	return mine, others
}

func openPipeStream(remote.Work) remote.Crew {
	c, other := pipeOf[int](false)
	end := partner(fillPipe, other)
	check(other.Close())
	return remote.Crew{
		Take:  func() int { return must(c.Recv(bg)) },
		Close: func() { end(); check(c.Close()) },
	}
}

func openPipe(remote.Work) remote.Crew {
	c, other := pipeOf[int](true)
	end := partner(answerPipe, other)
	check(other.Close())
	return remote.Crew{
		Call: func(arg int) int {
			check(c.Send(bg, arg))
			return must(c.Recv(bg))
		},
		Close: func() { end(); check(c.Close()) },
	}
}

func openPipeFlood(w remote.Work) remote.Crew {
	c, other := pipeOf[[]byte](false)
	end := partner(floodPipe, flood{other, w.Bytes})
	check(other.Close())
	return remote.Crew{
		Take: func() int {
			got := must(c.Recv(bg))
			if len(got) != w.Bytes {
				return -1
			}
			return numberOf(got)
		},
		Close: func() { end(); check(c.Close()) },
	}
}

// queueRows have what carries messages.
func queueRows(f foreign) []row {
	small := remote.Work{Shape: remote.Stream, Workers: 2, Calls: 1000}
	large := remote.Work{Shape: remote.Stream, Workers: 2, Calls: 10, Bytes: 1 << 20}
	awake, asleep := pingPong(0), pingPong(rest)
	queue := func(w remote.Work, open opener) []contestant { return []contestant{remotely(oursQueue, ours, w, open)} }
	pipe := func(w remote.Work, open opener) []contestant { return []contestant{remotely(oursPipe, ours, w, open)} }

	stream := rateRow("ipc-queue", "one process puts numbers into a queue, another takes them",
		queue(small, openQueueStream), ipcLimit(small, bareFlood), f.ipcPeers(small, mpQueue, mpBounded, mpSimple))
	stream.unit = "messages/s"
	stream.goals = []goal{
		onMachine(oursQueue, 1.5e6, "1,500,000/s"), timesOf(oursQueue, 6, mpQueue, mpBounded), beside(oursQueue, mpSimple),
		beside(oursQueue, bareFlood),
	}

	turns := turnRow("ipc-queue-turns", "a number there through one queue and back through another, one after another",
		queue(awake, openQueues), ipcLimit(awake, bareSpin, bareFutex), f.ipcPeers(awake, mpQueue, mpSimple))
	turns.goals = []goal{
		{judged: []string{oursQueue}, says: "≤ 2 µs", most: 2, orientation: true},
		fasterBy(oursQueue, 50, mpQueue), beside(oursQueue, bareSpin),
	}

	asleepTurns := turnRow("ipc-queue-rest", "the same after a rest of 2 ms before each, in which both processes fall asleep",
		queue(asleep, openQueues), ipcLimit(asleep, bareFutex), f.ipcPeers(asleep, mpQueue, mpSimple))
	asleepTurns.goals = []goal{atMost(oursQueue, 1.3, bareFutex), beside(oursQueue, mpQueue)}

	pipeTurns := turnRow("ipc-pipe-turns", "a number there and back through a pipe, one after another",
		pipe(awake, openPipe), ipcLimit(awake, bareSocket, barePolled, bareSpin), f.ipcPeers(awake, mpPipe))
	pipeTurns.goals = []goal{atMost(oursPipe, 1.3, bareSocket), atMost(oursPipe, 1.3, barePolled), beside(oursPipe, mpPipe)}

	pipeRest := turnRow("ipc-pipe-rest", "the same after a rest of 2 ms before each",
		pipe(asleep, openPipe), ipcLimit(asleep, bareSocket, barePolled, bareFutex), f.ipcPeers(asleep, mpPipe))
	pipeRest.goals = []goal{atMost(oursPipe, 1.3, bareSocket), atMost(oursPipe, 1.3, barePolled), beside(oursPipe, mpPipe)}

	pipeStream := rateRow("ipc-pipe", "one process sends numbers through a pipe, another receives them",
		pipe(small, openPipeStream), ipcLimit(small, bareFlood), f.ipcPeers(small, mpPipe))
	pipeStream.unit = "messages/s"
	pipeStream.goals = []goal{beside(oursPipe, bareFlood), beside(oursPipe, mpPipe)}

	pipeLarge := rateRow("ipc-pipe-1MiB", "1 MiB as []byte through a pipe, one way; the receiver owns what he gets, in the limits not",
		pipe(large, openPipeFlood), ipcLimit(large, bareFlood, bareCopies), f.ipcPeers(large, mpPipe, mpPipeBytes))
	pipeLarge.unit, pipeLarge.figures = "MiB/s", []string{remote.Faults}
	pipeLarge.goals = []goal{
		onMachine(oursPipe, 2500, "2,500 MiB/s"), timesOf(oursPipe, 4, mpPipe), beside(oursPipe, mpPipeBytes),
		beside(oursPipe, bareFlood), beside(oursPipe, bareCopies),
	}
	return []row{stream, turns, asleepTurns, pipeStream, pipeTurns, pipeRest, pipeLarge}
}
