// Pipe has a process and its child talk over a pipe of typed messages, and shows how each
// learns that the other is gone: when the child is through, and when it is killed half-way.
// The question of the lecture: why does the parent close the end that it gave away?
// Because a pipe ends when nobody has the other end any more, and the parent is somebody.
//
//	go run ./examples/pipe
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/worker"
)

// A message goes either way.
type message struct {
	Number int
	Text   string
}

// shout answers so many messages. When it returns, its end of the pipe is closed.
var shout = executor.NewTask("shout", func(ctx context.Context, s shouting) (struct{}, error) {
	for range s.Answers {
		m, err := s.Conn.Recv(ctx)
		if err != nil {
			return struct{}{}, err
		}
		if err := s.Conn.Send(ctx, message{m.Number, strings.ToUpper(m.Text)}); err != nil {
			return struct{}{}, err
		}
	}
	if s.Think {
		time.Sleep(time.Hour)
	}
	return struct{}{}, nil
})

type shouting struct {
	Conn    *ipc.Conn[message]
	Answers int
	Think   bool // about the rest, for an hour
}

func main() {
	worker.Main() // a worker process stays in here
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := talk(ctx); err != nil {
		log.Fatal("pipe: ", err)
	}
	fmt.Println()
	if err := killed(ctx); err != nil {
		log.Fatal("pipe: ", err)
	}
}

func show(what string, got ...any) { fmt.Printf("%-48s %s", what, fmt.Sprintln(got...)) }

// begin starts a child at the other end of conn, and sends it all the words.
func begin(ctx context.Context, s shouting, words ...string) (conn *ipc.Conn[message], p *worker.Process[struct{}], err error) {
	conn, s.Conn, err = ipc.Pipe[message](true)
	if err != nil {
		return nil, nil, err
	}
	p, err = worker.Start(ctx, shout, s, worker.Config{})
	s.Conn.Close() // the child has its own; with this one open there would be no io.EOF
	for i := 0; i < len(words) && err == nil; i++ {
		err = conn.Send(ctx, message{i + 1, words[i]})
	}
	return conn, p, err
}

func talk(ctx context.Context) error {
	conn, p, err := begin(ctx, shouting{Answers: 3}, "to be", "or not", "to be")
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		m, err := conn.Recv(ctx)
		if err != nil {
			show("conn.recv(), when the child is through: io.EOF", errors.Is(err, io.EOF))
			break
		}
		show("conn.recv()", m.Number, m.Text)
	}
	err = conn.Send(ctx, message{4, "that is"})
	show("conn.send(): io.ErrClosedPipe", errors.Is(err, io.ErrClosedPipe))
	return p.Join(ctx)
}

func killed(ctx context.Context) error {
	conn, p, err := begin(ctx, shouting{Answers: 2, Think: true}, "who", "is", "there")
	if err != nil {
		return err
	}
	defer conn.Close()
	for range 2 {
		ready, err := conn.Poll(ctx)
		m, rerr := conn.Recv(ctx)
		show("conn.poll(), conn.recv()", ready, m.Number, m.Text, errors.Join(err, rerr))
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = p.Kill() }) // Recv waits by then
	_, err = conn.Recv(ctx)
	show("conn.recv(), when the child is killed: io.EOF", errors.Is(err, io.EOF))
	err = p.Join(ctx)
	code, _ := p.ExitCode()
	show("p.exitcode", code)
	return err
}
