// Remotemanager is three programs that need not be on one machine: a server of a queue, a writer
// and a reader, over TCP. They know each other by a key, which is in a file that only its owner
// can read: not in an argument, which everybody sees. Without arguments it starts all three, and
// a writer that has another key.
//
//	go run ./examples/remotemanager
//	go run ./examples/remotemanager server KEYFILE 0.0.0.0:50000    # until its input ends
//	go run ./examples/remotemanager reader KEYFILE 10.0.0.1:50000
//	go run ./examples/remotemanager writer KEYFILE 10.0.0.1:50000
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"example.com/futures/ipc/manager"
)

// A letter is what is written and read.
type letter struct {
	From int // the writer's process
	Text string
}

// roles are what this program can be, each with its key and an address.
var roles = map[string]func(ctx context.Context, key []byte, addr string) error{"server": server, "writer": writer, "reader": reader}

// Python: m = QueueManager(address=(…), authkey=…); m.get_server().serve_forever()
func server(ctx context.Context, key []byte, addr string) error {
	m, err := manager.Serve(ctx, "tcp", addr, manager.Config{AuthKey: key})
	if err != nil {
		return err
	}
	defer m.Close()
	letters, err := manager.NewQueue[letter](ctx, m, 10)
	if err != nil {
		return err
	}
	if err := manager.Publish(ctx, m, "letters", letters); err != nil {
		return err
	}
	fmt.Println(m.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Python: m.connect(); letters = m.get_letters()
func connect(ctx context.Context, key []byte, addr string) (*manager.Manager, *manager.Queue[letter], error) {
	m, err := manager.Connect(ctx, "tcp", addr, manager.Config{AuthKey: key})
	if err != nil {
		return nil, nil, err
	}
	letters, err := manager.Lookup[*manager.Queue[letter]](ctx, m, "letters")
	if err != nil {
		return nil, nil, errors.Join(err, m.Close())
	}
	return m, letters, nil
}

func writer(ctx context.Context, key []byte, addr string) error {
	m, letters, err := connect(ctx, key, addr)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, text := range []string{"to be", "or not", "to be"} {
		if err := letters.Put(ctx, letter{os.Getpid(), text}); err != nil {
			return err
		}
	}
	return letters.Shutdown(ctx) // what is in it is still read
}

func reader(ctx context.Context, key []byte, addr string) error {
	m, letters, err := connect(ctx, key, addr)
	if err != nil {
		return err
	}
	defer m.Close()
	for {
		l, err := letters.Get(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Printf("process %d read %q of process %d\n", os.Getpid(), l.Text, l.From)
	}
}

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	if len(os.Args) == 1 {
		check(all(ctx))
		return
	}
	if len(os.Args) != 4 || roles[os.Args[1]] == nil {
		log.Fatal("usage: remotemanager [server|writer|reader KEYFILE ADDRESS]")
	}
	key, err := os.ReadFile(os.Args[2])
	check(err)
	check(roles[os.Args[1]](ctx, key, os.Args[3]))
}

// all plays the three roles in processes of their own.
func all(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "remotemanager")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	key, other := filepath.Join(dir, "key"), filepath.Join(dir, "other")
	if err := errors.Join(os.WriteFile(key, []byte(rand.Text()), 0o600), os.WriteFile(other, []byte(rand.Text()), 0o600)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	srv := exec.CommandContext(ctx, self, "server", key, "127.0.0.1:0")
	srv.Stderr = os.Stderr
	in, err1 := srv.StdinPipe()
	out, err2 := srv.StdoutPipe()
	if err := errors.Join(err1, err2, srv.Start()); err != nil {
		return err
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	addr = strings.TrimSpace(addr)
	fmt.Printf("process %d serves at %s\n", srv.Process.Pid, addr)

	read := exec.CommandContext(ctx, self, "reader", key, addr)
	read.Stdout, read.Stderr = os.Stdout, os.Stderr
	err = errors.Join(err, read.Start())
	refused, wrong := exec.CommandContext(ctx, self, "writer", other, addr).CombinedOutput()
	fmt.Printf("a writer with another key: %v, %s", wrong, refused)
	written, right := exec.CommandContext(ctx, self, "writer", key, addr).CombinedOutput()
	fmt.Printf("the writer with the key: %v %s\n", right, written)
	err = errors.Join(err, read.Wait(), in.Close(), srv.Wait())
	fmt.Println("reader and server:", err)
	return err
}

func check(err error) {
	if err != nil {
		log.Fatal("remotemanager: ", err)
	}
}
