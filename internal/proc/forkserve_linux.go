package proc

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file is what runs inside a fork server.

const (
	serverMagic   = 0x666f726b // of the greeting
	serverVersion = 1
)

// A serverHello is how a fork server introduces itself.
type serverHello struct{ Magic, Version int }

// A startRequest asks a fork server for a worker. Its descriptors, 0 and up, come with it.
type startRequest struct {
	HasEnv bool // Env is the environment; otherwise the server's own
	Env    []string
	Dir    string // "": the server's
	Procs  int    // Spec.GOMAXPROCS
	Sys    *syscall.SysProcAttr
}

// A startReply says what became of it.
type startReply struct {
	PID   int
	Peak  int64  // the server's resident bytes, at most
	Errno int    // of what failed; 0: see Error
	Error string // "": it was started
}

// ServeForks makes a fork server serve, and does not return then. In any other process
// it returns at once.
//
// A fork server does nothing but start workers, one after another. It ends when its
// program does, of which it learns by the end of the socket.
func ServeForks() {
	if !isServer {
		return
	}
	arrive()
	c := &control{f: os.NewFile(socketFD, "program"), peer: os.Getppid()}
	// Whoever made the socket is who started this process, or is dead.
	cred, err := unix.GetsockoptUcred(socketFD, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Pid) != c.peer || c.send(serverHello{serverMagic, serverVersion}) != nil {
		os.Exit(1)
	}
	for {
		var r startRequest
		fds, err := c.receive(&r)
		if err != nil {
			os.Exit(0)
		}
		err = c.send(r.start(fds))
		closeAll(fds)
		if err != nil {
			os.Exit(0)
		}
	}
}

// start starts a worker as a child of this process's own parent, which so learns of its
// end, how it ended and what it used from the kernel, as of any child that it started
// itself. It stays in this process's group until its parent knows its number and greets
// it: whatever becomes of this process meanwhile, the program finds it there.
func (r *startRequest) start(fds []int) startReply {
	env, session := os.Environ(), ""
	if r.HasEnv {
		env = r.Env
	}
	sys := r.Sys
	if sys == nil {
		sys = new(syscall.SysProcAttr)
	}
	if sys.Setsid {
		session = sessionMark
	}
	sys.Setsid, sys.Setpgid = false, false
	sys.Cloneflags |= syscall.CLONE_PARENT
	files := make([]uintptr, len(fds))
	for i, fd := range fds {
		files[i] = uintptr(fd)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Dir: r.Dir, Env: marked(env, session, r.Procs), Files: files, Sys: sys,
	})
	reply := startReply{PID: pid, Peak: ownPeak()}
	if err != nil {
		reply.Error = err.Error()
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			reply.Errno = int(errno)
		}
	}
	return reply
}

// Settle makes a worker that a fork server started the leader of its own group, or
// session, as others are from the start. Its parent knows it now.
func Settle() {
	switch {
	case wantsSession:
		_, _ = unix.Setsid() // it leads no group yet
	case unix.Getpgrp() != unix.Getpid():
		_ = unix.Setpgid(0, 0) // likewise
	}
}

// marked returns env with the marker of a worker in it once: with a variable twice, the
// first would win. If procs is not 0, the runtime finds it as its GOMAXPROCS from the
// start: to change that later stops the process, which has made threads by then. The marker keeps
// what env had instead.
func marked(env []string, what string, procs int) []string {
	all := make([]string, 0, len(env)+2)
	kept := ""
	for _, v := range env {
		value, ours := strings.CutPrefix(v, procsVariable+"=")
		switch {
		case strings.HasPrefix(v, marker+"="):
		case procs == 0 || !ours:
			all = append(all, v)
		case kept == "":
			kept = "=" + value
		}
	}
	if procs == 0 {
		return append(all, mark(what))
	}
	return append(all, procsVariable+"="+strconv.Itoa(procs), mark(strings.TrimSpace(what+" "+procsMark)+kept))
}
