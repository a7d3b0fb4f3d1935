package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"sync"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
	"example.com/futures/ipc"
)

// The names of ours, and of what Go has in one process.
const (
	oursLock    = "ipc.Lock"
	oursRLock   = "ipc.RLock"
	oursAgain   = "ipc.RLock, entered twice"
	oursSem     = "ipc.Semaphore"
	oursLimited = "ipc.Semaphore, bounded"
	oursEvent   = "ipc.Event"
	oursCond    = "ipc.Cond"
	oursBarrier = "ipc.Barrier"
	goMutex     = "sync.Mutex"
)

// What processes do to a lock together.
var (
	locking = inCompany("lock", func(l *ipc.Lock, n int) {
		for range n {
			check(l.Lock(bg))
			check(l.Unlock())
		}
	})
	reentering = inCompany("rlock", func(l *ipc.RLock, n int) {
		for range n {
			must(l.Lock(bg))
			check(l.Unlock())
		}
	})
	enteringTwice = inCompany("rlock twice", func(l *ipc.RLock, n int) {
		for range n {
			ctx := must(l.Lock(bg))
			must(l.Lock(ctx))
			check(l.Unlock())
			check(l.Unlock())
		}
	})
	acquiring = inCompany("semaphore", func(s *ipc.Semaphore, n int) {
		for range n {
			check(s.Acquire(bg, 1))
			check(s.Release(1))
		}
	})
)

func twoAtATime() (*ipc.Semaphore, error)       { return ipc.NewSemaphore(2) }
func twoAreHeldAtMost() (*ipc.Semaphore, error) { return ipc.NewBoundedSemaphore(2) }

// lockRows have locks, and what is like them.
func lockRows(f foreign) []row {
	lock := func(w remote.Work) []contestant {
		return []contestant{locking.contestant(oursLock, w, ipc.NewLock, nil)}
	}
	crowd := together(16)
	crowd.Timed, crowd.Calls = true, 100
	many := together(1000)
	many.Timed, many.Calls = true, 1

	alone := rateRow("ipc-lock", "a lock is taken and let go, by one process alone",
		lock(together(1)), ipcLimit(together(1), bareLock), f.ipcPeers(together(1), mpLock))
	alone.goals = []goal{onMachine(oursLock, 20e6, "20,000,000/s"), timesOf(oursLock, 7, mpLock), beside(oursLock, bareLock)}

	two := rateRow("ipc-lock-2", "the same by two processes at the same time, in all",
		lock(together(2)), ipcLimit(together(2), bareLock), f.ipcPeers(together(2), mpLock))
	two.goals = []goal{onMachine(oursLock, 4e6, "4,000,000/s"), timesOf(oursLock, 1.9, mpLock), beside(oursLock, bareLock)}

	sixteen := rateRow("ipc-lock-16", "the same by 16 processes, in all; worst: the longest that one of them waited",
		lock(crowd), ipcLimit(crowd, bareLock), f.ipcPeers(crowd, mpLock))
	sixteen.figures = []string{remote.Worst}
	sixteen.goals = []goal{
		beside(oursLock, mpLock), beside(oursLock, bareLock),
		{judged: []string{oursLock}, says: "ms, the longest wait, to " + mpLock, metric: figure(remote.Worst), than: named(mpLock)},
	}

	goroutines := rateRow("ipc-lock-goroutines", "the same by 1,000 goroutines of one process, in all",
		[]contestant{
			crowded(oursLock, ours, many, func() (func(int), io.Closer) {
				l := must(ipc.NewLock())
				return func(n int) { locking.own(l, n) }, l
			}),
			crowded(goMutex, bare, many, func() (func(int), io.Closer) {
				var mu sync.Mutex
				count := 0
				return func(n int) {
					for range n {
						mu.Lock()
						count++
						mu.Unlock()
					}
				}, io.NopCloser(nil)
			}),
		})
	goroutines.missing = []missing{{"ipc-lock-goroutines: Python", "on a busy machine, a thousand threads took longer than a measurement may"}}
	goroutines.figures = []string{remote.Worst, threads}
	goroutines.goals = []goal{
		beside(oursLock, goMutex),
		{judged: []string{oursLock}, says: "threads of that process", metric: figure(threads)},
	}

	reentrant := rateRow("ipc-rlock", "an RLock is taken and let go, by one process alone",
		[]contestant{
			reentering.contestant(oursRLock, together(1), ipc.NewRLock, nil),
			enteringTwice.contestant(oursAgain, together(1), ipc.NewRLock, nil),
		}, f.ipcPeers(together(1), mpRLock))
	reentrant.goals = []goal{beside(oursRLock, mpRLock)}

	rows := []row{alone, two, sixteen, goroutines, reentrant}
	for _, s := range []struct {
		name, who string
		processes int
	}{{"ipc-semaphore", "one process alone", 1}, {"ipc-semaphore-2", "two processes at the same time, in all", 2}} {
		w := together(s.processes)
		r := rateRow(s.name, "one of a semaphore's two is acquired and released, by "+s.who,
			[]contestant{
				acquiring.contestant(oursSem, w, twoAtATime, nil),
				acquiring.contestant(oursLimited, w, twoAreHeldAtMost, nil),
			}, f.ipcPeers(w, mpSemaphore, mpLimited))
		r.goals = []goal{beside(oursSem, mpSemaphore), beside(oursLimited, mpLimited)}
		rows = append(rows, r)
	}
	return rows
}

// threads is the name of a figure: the most that the process had that measured.
const threads = "threads"

// crowded is the contestant of a work that the goroutines of one process do together.
func crowded(name string, c class, w remote.Work, open func() (op func(n int), end io.Closer)) contestant {
	return contestant{name: name, class: c, run: func(e effort) (measurement, error) {
		m, err := measuredAs(limited(w, e).Measure(func(w remote.Work) remote.Crew {
			op, end := open()
			return remote.Crew{
				Op: op,
				Party: func(address string) func() remote.Tally {
					t := make(chan remote.Tally, 1)
					go func() { // ends when its tally is done, which is waited for
						check(remote.Attend(address))
						t <- w.Tally(op)
					}()
					return func() remote.Tally { return <-t }
				},
				Close: func() { check(end.Close()) },
			}
		}))
		if err == nil && w.Timed {
			m.Figures[threads] = threadsOf()
		}
		return m, err
	}}
}

// threadsOf is how many threads this process has. Go's do not end. It is 0 where that is unknown.
func threadsOf() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, after, _ := bytes.Cut(text, []byte("\nThreads:"))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	n, _ := strconv.Atoi(string(bytes.TrimSpace(line)))
	return float64(n)
}

// events are set in turn.
type events struct{ There, Back *ipc.Event }

// What the other process does in a round trip.
var (
	answerEvents = endless("events", func(e events) {
		check(e.There.Wait(bg))
		check(e.There.Clear())
		check(e.Back.Set())
	})
	// Who does not wait holds the lock, so that a notification finds the other.
	answerCond = executor.NewTask("bench.cond", func(_ context.Context, c *ipc.Cond) (int, error) {
		check(c.L.Lock(bg))
		for {
			check(c.Notify(1))
			check(c.Wait(bg))
		}
	})
	answerBarrier = endless("barrier", func(b *ipc.Barrier) { must(b.Wait(bg)) })
)

func openEvents(remote.Work) remote.Crew {
	e := events{must(ipc.NewEvent()), must(ipc.NewEvent())}
	end := partner(answerEvents, e)
	return remote.Crew{
		Call: func(arg int) int {
			check(e.There.Set())
			check(e.Back.Wait(bg))
			check(e.Back.Clear())
			return arg + 1
		},
		Close: func() { end(); check(e.There.Close()); check(e.Back.Close()) },
	}
}

func openCond(remote.Work) remote.Crew {
	l := must(ipc.NewLock())
	c := must(ipc.NewCond(l))
	check(l.Lock(bg))
	end := partner(answerCond, c)
	check(c.Wait(bg)) // until the other waits
	return remote.Crew{
		Call: func(arg int) int {
			check(c.Notify(1))
			check(c.Wait(bg))
			return arg + 1
		},
		Close: func() { end(); check(c.Close()); check(l.Close()) },
	}
}

func openBarrier(remote.Work) remote.Crew {
	b := must(ipc.NewBarrier(2))
	end := partner(answerBarrier, b)
	return remote.Crew{
		Call:  func(arg int) int { must(b.Wait(bg)); return arg + 1 },
		Close: func() { end(); check(b.Close()) },
	}
}

// signalRows have processes that wait for one another.
func signalRows(f foreign) []row {
	var rows []row
	for _, s := range []struct {
		name, title, ours, python string
		open                      opener
	}{
		{"ipc-event", "an event is set, the other process waits for it, clears it, and sets another", oursEvent, mpEvent, openEvents},
		{"ipc-cond", "a condition is notified, and the other process notifies it", oursCond, mpCondition, openCond},
		{"ipc-barrier", "two processes pass a barrier", oursBarrier, mpBarrier, openBarrier},
	} {
		w := pingPong(0)
		r := turnRow(s.name, s.title, []contestant{remotely(s.ours, ours, w, s.open)}, ipcLimit(w, bareFutex), f.ipcPeers(w, s.python))
		r.goals = []goal{beside(s.ours, s.python), beside(s.ours, bareFutex)}
		rows = append(rows, r)
	}
	return rows
}
