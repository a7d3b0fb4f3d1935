package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/ipc/manager"
	"example.com/futures/worker"
)

// The names of ours.
const (
	oursGet     = "manager.Dict.Get"
	oursSet     = "manager.Dict.Set"
	oursUnix    = "manager.Dict.Get, unix socket"
	oursTLS     = "manager.Dict.Get, TCP under TLS 1.3"
	oursJobs    = "manager.Queue"
	oursUpdate  = "manager.Value.Update"
	oursMethod  = "manager.Method.Call"
	oursMethods = "manager.Method.Call, 64 goroutines"
	oneWide     = "1 client of 64 goroutines"
	tenWide     = "10 clients of 64 goroutines"
	oneNarrow   = "1 client of 6 goroutines"
	tenNarrow   = "10 clients of 6 goroutines"
)

// How many there are of each.
const (
	managerCrowd = 64 // goroutines of one process
	manyClients  = 10
	fewCalls     = 6 // goroutines of one of them: ten have about as many as the one that has many
)

// A tallied is an object of a type of this program's own.
type tallied struct {
	mu sync.Mutex
	n  int
}

func (t *tallied) Add(_ context.Context, n int) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += n
	return t.n, nil
}

var (
	talliedType = manager.NewType("bench.tallied", func(context.Context, int) (*tallied, error) { return &tallied{}, nil })
	talliedAdd  = manager.NewMethod(talliedType, "Add", (*tallied).Add)
)

// numbers is what most rows use.
type numbers = manager.Dict[string, int]

// theKey is of the entry that all get and set: the first value is 1.
const theKey = "key"

func newNumbers(m *manager.Manager) *numbers {
	d := must(manager.NewDict[string, int](bg, m))
	check(d.Set(bg, theKey, 1))
	return d
}

func getting(d *numbers) func(n int) {
	return func(n int) {
		for range n {
			if v, ok, err := d.Get(bg, theKey); !ok || err != nil || v < 0 {
				panic(fmt.Sprint(v, ok, err))
			}
		}
	}
}

func setting(d *numbers) func(n int) {
	return func(n int) {
		for i := range n {
			check(d.Set(bg, theKey, i))
		}
	}
}

func startManager() *manager.Manager { return must(manager.Start(bg, manager.Config{})) }

// closers are closed in their order.
type closers []io.Closer

func (c closers) Close() error {
	for _, one := range c {
		check(one.Close())
	}
	return nil
}

// inGoroutines is work of so many goroutines of this process, or of threads of Python's.
func inGoroutines(goroutines int) remote.Work {
	w := together(goroutines)
	w.Calls = 100
	return w
}

// busily is what the goroutines of one process do to a new Dict.
func busily(name string, op func(*numbers) func(n int)) contestant {
	return crowded(name, ours, inGoroutines(managerCrowd), func() (func(int), io.Closer) {
		m := startManager()
		d := newNumbers(m)
		return op(d), closers{d, m}
	})
}

// managed is the pastime with a new handle of a new manager.
func (p pastime[H]) managed(name string, w remote.Work, newHandle func(*manager.Manager) (H, error), count func(H) int) contestant {
	return remotely(name, ours, w, func(w remote.Work) remote.Crew {
		m := startManager()
		c := p.crew(w, must(newHandle(m)), count)
		closeHandle := c.Close
		c.Close = func() { closeHandle(); check(m.Close()) }
		return c
	})
}

// A clientele is what a client process gets: how many of its goroutines take part.
type clientele struct {
	Address    string // of the meeting at which all start
	Work       remote.Work
	Goroutines int
	Dict       *numbers
}

// beClient has a process get again and again.
var beClient = executor.NewTask("bench.manager client", func(_ context.Context, c clientele) ([]remote.Tally, error) {
	if err := remote.Attend(c.Address); err != nil {
		return nil, err
	}
	tallies := make([]remote.Tally, c.Goroutines)
	var wg sync.WaitGroup
	for i := range tallies {
		wg.Go(func() { tallies[i] = c.Work.Tally(getting(c.Dict)) })
	}
	wg.Wait()
	return tallies, nil
})

// clients is the contestant of client processes that do the same, all in all. The process that measures does nothing.
func clients(name string, processes, goroutines int) contestant {
	return contestant{name: name, class: ours, run: func(e effort) (measurement, error) {
		w := limited(inGoroutines(goroutines), e)
		m := startManager()
		defer m.Close()
		d := newNumbers(m)
		meeting, err := remote.NewMeeting()
		if err != nil {
			return measurement{}, err
		}
		defer meeting.Close()
		var started []*worker.Process[[]remote.Tally]
		for range processes {
			started = append(started, must(worker.Start(bg, beClient, clientele{meeting.Address(), w, goroutines, d}, worker.Config{GOMAXPROCS: processors})))
		}
		if err := meeting.Wait(processes); err != nil {
			return measurement{}, err
		}
		meeting.Close()
		calls, rate := 0, 0.0
		for _, p := range started {
			for _, t := range must(p.Future().Result(bg)) {
				calls += t.Calls
				rate += float64(t.Calls) / float64(t.Took.Nanoseconds())
			}
			check(p.Join(bg))
		}
		return measurement{Calls: calls, Nanos: int64(float64(calls) / rate)}, nil
	}}
}

// A servedAt is an address to serve at, and where to tell it.
type servedAt struct {
	Network, Address string
	Key              []byte
	Tell             *ipc.Conn[string]
}

// serveDict serves at an address for as long as the process lives.
var serveDict = executor.NewTask("bench.manager server", func(ctx context.Context, s servedAt) (int, error) {
	m, err := manager.Serve(ctx, s.Network, s.Address, manager.Config{AuthKey: s.Key})
	if err != nil {
		return 0, err
	}
	check(manager.Publish(ctx, m, "dict", newNumbers(m)))
	check(s.Tell.Send(ctx, m.Addr().String()))
	<-ctx.Done()
	return 0, m.Close()
})

// atAddress is busily with a server that another process serves at an address.
func atAddress(name, network string, key []byte) contestant {
	return crowded(name, ours, inGoroutines(managerCrowd), func() (func(int), io.Closer) {
		dir := must(os.MkdirTemp("", "manager"))
		addr := filepath.Join(dir, "s")
		if network == "tcp" {
			addr = "127.0.0.1:0"
		}
		told, tell := pipeOf[string](false)
		end := partner(serveDict, servedAt{network, addr, key, tell})
		check(tell.Close())
		addr = must(told.Recv(bg))
		m := must(manager.Connect(bg, network, addr, manager.Config{AuthKey: key}))
		d := must(manager.Lookup[*numbers](bg, m, "dict"))
		return getting(d), closers{d, m, told, ending(end), ending(func() { check(os.RemoveAll(dir)) })}
	})
}

// An ending is a function as a Closer.
type ending func()

func (e ending) Close() error { e(); return nil }

// oneCall is a call at a time.
func oneCall(name string, call func(d *numbers, arg int) int) contestant {
	return remotely(name, ours, pingPong(0), func(remote.Work) remote.Crew {
		m := startManager()
		d := newNumbers(m)
		return remote.Crew{
			Call:  func(arg int) int { return call(d, arg) },
			Close: func() { check(d.Close()); check(m.Close()) },
		}
	})
}

// payloads is how many there are of large ones.
const payloads = 16

// largeValues moves payloads out of a Dict, or into it.
func largeValues(take func(d *manager.Dict[int, []byte], own [][]byte, n int) int) opener {
	return func(w remote.Work) remote.Crew {
		m := startManager()
		d := must(manager.NewDict[int, []byte](bg, m))
		own := make([][]byte, payloads)
		for i := range own {
			own[i] = make([]byte, w.Bytes)
			number(own[i], i)
			check(d.Set(bg, i, own[i]))
		}
		n := 0
		return remote.Crew{
			Take:  func() int { n++; return take(d, own, n-1) },
			Close: func() { check(d.Close()); check(m.Close()) },
		}
	}
}

func getLarge(d *manager.Dict[int, []byte], own [][]byte, n int) int {
	got, _, err := d.Get(bg, n%payloads)
	check(err)
	if len(got) != len(own[0]) || numberOf(got) != n%payloads {
		return -1
	}
	return n
}

func setLarge(d *manager.Dict[int, []byte], own [][]byte, n int) int {
	check(d.Set(bg, n%payloads, own[n%payloads]))
	return n
}

// What other processes do.
var (
	fillJobs = executor.NewTask("bench.fill manager queue", func(_ context.Context, q *manager.Queue[int]) (int, error) {
		for n := 0; ; n++ {
			check(q.Put(bg, n))
		}
	})
	updatingManaged = inCompany("manager update", func(v *manager.Value[int], n int) {
		for range n {
			check(v.Update(bg, func(x *int) { *x++ }))
		}
	})
	callingMethod = inCompany("manager method", func(o *manager.Object[*tallied], n int) {
		for range n {
			must(talliedAdd.Call(bg, o, 1))
		}
	})
)

func newManagedValue(m *manager.Manager) (*manager.Value[int], error) {
	return manager.NewValue(bg, m, 0)
}

func newTallied(m *manager.Manager) (*manager.Object[*tallied], error) {
	return talliedType.New(bg, m, 0)
}

func openJobs(remote.Work) remote.Crew {
	m := startManager()
	q := must(manager.NewQueue[int](bg, m, queueCapacity))
	end := partner(fillJobs, q)
	return remote.Crew{
		Take:  func() int { return must(q.Get(bg)) },
		Close: func() { end(); check(q.Close()); check(m.Close()) },
	}
}

// inManager are the rows of objects in a manager's server.
func inManager(f foreign) []row {
	// Python's have as many clients as suit it: processes, or threads of one. On the machine of the
	// goals they came to 53,000/s, of which 150,000/s are 2.8 times as many.
	get := rateRow("manager-get", "Dict.Get by 64 goroutines of one process, in all; Python's by 10 processes, or 64 threads",
		[]contestant{busily(oursGet, getting)}, f.ipcPeers(together(manyClients), mpGet), f.ipcPeers(inGoroutines(managerCrowd), mpGetThreads))
	get.goals = []goal{onMachine(oursGet, 150e3, "150,000/s"), timesOf(oursGet, 2.8, mpGet, mpGetThreads)}

	set := rateRow("manager-set", "Dict.Set by the same",
		[]contestant{busily(oursSet, setting)}, f.ipcPeers(together(manyClients), mpSet), f.ipcPeers(inGoroutines(managerCrowd), mpSetThreads))
	set.goals = []goal{onMachine(oursSet, 150e3, "150,000/s"), timesOf(oursSet, 2.8, mpSet, mpSetThreads)}

	one := pingPong(0)
	call := turnRow("manager-call", "Dict.Get, and Dict.Set, one after another",
		[]contestant{
			oneCall(oursGet, func(d *numbers, arg int) int { v, _, err := d.Get(bg, theKey); check(err); return arg + v }),
			oneCall(oursSet, func(d *numbers, arg int) int { check(d.Set(bg, theKey, arg)); return arg + 1 }),
		}, ipcLimit(one, barePolled, bareSocket), f.ipcPeers(one, mpGet, mpSet))
	call.goals = []goal{atMost(oursGet, 1.3, barePolled), atMost(oursSet, 1.3, barePolled), beside(oursGet, bareSocket), beside(oursGet, mpGet)}

	many := rateRow("manager-clients", "Dict.Get by client processes at the same time, in all",
		[]contestant{
			clients(oneWide, 1, managerCrowd), clients(tenWide, manyClients, managerCrowd),
			clients(oneNarrow, 1, fewCalls), clients(tenNarrow, manyClients, fewCalls),
		})
	many.goals = []goal{timesOf(tenWide, 0.9, oneWide), timesOf(tenNarrow, 0.9, oneNarrow), beside(tenNarrow, oneWide)}
	many.missing = []missing{{"manager-clients: everybody else", "the row compares ours with itself"}}

	secure := rateRow("manager-tls", "Dict.Get by 64 goroutines of one process, of a server in another; TCP is on loopback",
		[]contestant{atAddress(oursUnix, "unix", nil), atAddress(oursTLS, "tcp", []byte("the key of a bench"))})
	secure.goals = []goal{timesOf(oursTLS, 0.6, oursUnix)}
	secure.missing = []missing{{"manager-tls: everybody else", "Python's managers have no TLS"}}

	large := remote.Work{Shape: remote.Stream, Workers: 2, Calls: 10, Bytes: 1 << 20}
	mebi := rateRow("manager-1MiB", "1 MiB as []byte out of a Dict, or into it, one after another; a client owns what he gets, in the limit not",
		[]contestant{remotely(oursGet, ours, large, largeValues(getLarge)), remotely(oursSet, ours, large, largeValues(setLarge))},
		ipcLimit(large, bareFlood), f.ipcPeers(large, mpGet, mpSet))
	mebi.unit, mebi.figures = "MiB/s", []string{remote.Faults}
	mebi.goals = []goal{
		{judged: []string{oursGet}, says: "≥ 1,000 MiB/s", least: 1000},
		{judged: []string{oursSet}, says: "≥ 1,000 MiB/s", least: 1000},
		beside(oursGet, mpGet), beside(oursSet, mpSet), beside(oursGet, bareFlood), beside(oursSet, bareFlood),
	}

	small := remote.Work{Shape: remote.Stream, Workers: 2, Calls: 1000}
	queue := rateRow("manager-queue", "one process puts numbers into a Queue, another takes them, each one after another",
		[]contestant{remotely(oursJobs, ours, small, openJobs)}, f.ipcPeers(small, mpJobs))
	queue.unit = "messages/s"
	queue.goals = []goal{beside(oursJobs, mpJobs)}

	two := together(2)
	update := rateRow("manager-update", "a number is counted up, by two processes at the same time, in all; Python's under a lock of the manager",
		[]contestant{updatingManaged.managed(oursUpdate, two, newManagedValue, func(v *manager.Value[int]) int { return must(v.Load(bg)) })},
		f.ipcPeers(two, mpCounted))
	update.goals = []goal{beside(oursUpdate, mpCounted)}

	method := rateRow("manager-method", "a method of a type of one's own adds to a number, by two processes at the same time, in all; and by goroutines of one",
		[]contestant{
			callingMethod.managed(oursMethod, two, newTallied, func(o *manager.Object[*tallied]) int {
				return must(talliedAdd.Call(bg, o, 0))
			}),
			crowded(oursMethods, ours, inGoroutines(managerCrowd), func() (func(int), io.Closer) {
				m := startManager()
				o := must(newTallied(m))
				return func(n int) { callingMethod.own(o, n) }, closers{o, m}
			}),
		}, f.ipcPeers(two, mpMethod), f.ipcPeers(together(manyClients), mpMethods))
	method.goals = []goal{beside(oursMethod, mpMethod), beside(oursMethods, mpMethods)}

	return []row{get, set, call, many, secure, mebi, queue, update, method}
}
