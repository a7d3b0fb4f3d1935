package main

import (
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"

	"example.com/futures/bench/remote"
)

// Calls is what the children serve.
type Calls struct{}

// Next, Spin and Pause are the bodies of calls.
func (Calls) Next(n int, out *int) error  { *out = remote.Next.Call(n); return nil }
func (Calls) Spin(n int, out *int) error  { *out = remote.Spin.Call(n); return nil }
func (Calls) Pause(n int, out *int) error { *out = remote.Pause.Call(n); return nil }

// Echo returns what it gets.
func (Calls) Echo(b []byte, out *[]byte) error { *out = b; return nil }

// Attend comes to a meeting.
func (Calls) Attend(address string, out *int) error { return remote.Attend(address) }

var methods = map[remote.Body]string{"": "Next", remote.Next: "Next", remote.Spin: "Spin", remote.Pause: "Pause"}

// A client is one child's.
type client interface {
	Go(method string, args, reply any, done chan *rpc.Call) *rpc.Call
}

// crewOf has the calls go to the clients in turn. service is the name that they know Calls by.
func crewOf[C client](w remote.Work, service string, clients []C, end func()) remote.Crew {
	method := service + "." + methods[w.Body]
	turn := 0
	next := func() C {
		turn++
		return clients[turn%len(clients)]
	}
	submit := func(method string, arg any) func() int {
		reply := new(int)
		call := next().Go(method, arg, reply, make(chan *rpc.Call, 1))
		return func() int { check((<-call.Done).Error); return *reply }
	}
	return remote.Crew{
		Call:   func(arg int) int { return submit(method, arg)() },
		Submit: func(arg int) func() int { return submit(method, arg) },
		Fan: func(args, out []int) {
			calls := make([]*rpc.Call, len(args))
			for i, arg := range args {
				calls[i] = next().Go(method, arg, &out[i], make(chan *rpc.Call, 1))
			}
			for _, call := range calls {
				check((<-call.Done).Error)
			}
		},
		Echo: func(payload []byte) func() []byte {
			reply := new([]byte)
			call := next().Go(service+".Echo", payload, reply, make(chan *rpc.Call, 1))
			return func() []byte { check((<-call.Done).Error); return *reply }
		},
		Attend: func(address string) func() int { return submit(service+".Attend", address) },
		Close:  end,
	}
}

// openRPC starts children and connects each by a Unix socket, as two programs would.
func openRPC(w remote.Work) remote.Crew {
	dir := must(os.MkdirTemp("", "rpc"))
	l := must(net.Listen("unix", filepath.Join(dir, "s")))
	clients, children := make([]*rpc.Client, w.Workers), make([]*exec.Cmd, w.Workers)
	for i := range children {
		c := exec.Command(must(os.Executable()), serveArg)
		c.Env = append(os.Environ(), "GOMAXPROCS=1", addressVariable+"="+l.Addr().String())
		c.Stderr = os.Stderr
		check(c.Start())
		children[i] = c
	}
	for i := range clients {
		clients[i] = rpc.NewClient(must(l.Accept()))
	}
	return crewOf(w, "Calls", clients, func() {
		// First all, then all: they may have come in another order than they were started.
		for _, c := range clients {
			check(c.Close())
		}
		for _, c := range children {
			check(c.Wait())
		}
		check(l.Close())
		check(os.RemoveAll(dir))
	})
}

// addressVariable says where a child finds its parent.
const addressVariable = "GOPEERS_ADDRESS"

// serveRPC is a child. It ends when its parent hangs up, or dies.
func serveRPC() error {
	c, err := net.Dial("unix", os.Getenv(addressVariable))
	if err != nil {
		return err
	}
	if err := rpc.Register(Calls{}); err != nil {
		return err
	}
	rpc.ServeConn(c)
	return nil
}
