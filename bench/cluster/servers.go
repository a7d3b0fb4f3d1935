package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// Servers are this program's own: on a free port of loopback, with a password that is made for them, in a folder of their own, and
// ended with it. What the system runs as a service is never touched. They keep nothing for good: a machine that
// loses power may lose calls, as it does with a NATS server that is in memory.

// serverVersion is in what a server says to --version.
var serverVersion = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

func versionOf(command ...string) (string, error) {
	out, err := exec.Command(command[0], append(command[1:], "--version")...).Output()
	if err != nil {
		return "", err
	}
	version := serverVersion.FindString(string(out))
	if version == "" {
		return "", fmt.Errorf("%s --version says %q", command[0], out)
	}
	return version, nil
}

func redisVersion() (string, error) { return versionOf("redis-server") }

// startRedis starts a Redis that writes nothing to the disk.
func startRedis(dir string) (address string, stop func()) {
	dir = must(os.MkdirTemp(dir, "redis"))
	port, password := freePort(), rand.Text()
	cmd := exec.Command("redis-server", "-")
	// Through the standard input, since everybody may read the arguments of a process.
	cmd.Stdin = strings.NewReader(fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %s\nsave \"\"\nappendonly no\ndir %s\n", port, password, dir))
	end := started(cmd, dir)
	u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	c := redis.NewClient(must(redis.ParseURL(u.String())))
	defer c.Close()
	answers(cmd, dir, func(ctx context.Context) error { return c.Ping(ctx).Err() })
	return u.String(), func() { end(); check(os.RemoveAll(dir)) }
}

// debianPostgres is where Debian has the programs of the server, which are not on the PATH: one folder a version.
const debianPostgres = "/usr/lib/postgresql/*/bin"

// postgres returns how to run one of the programs of the newest PostgreSQL. It refuses to be run by root, who
// takes the user that Debian has made for it.
func postgres(program string) ([]string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		folders, _ := filepath.Glob(debianPostgres) // the pattern is well formed
		number := func(folder string) int { n, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder))); return n }
		slices.SortFunc(folders, func(a, b string) int { return cmp.Compare(number(b), number(a)) })
		if len(folders) == 0 {
			return nil, err
		}
		path = filepath.Join(folders[0], program)
	}
	if os.Geteuid() != 0 {
		return []string{path}, nil
	}
	setpriv, err := exec.LookPath("setpriv") // becomes the program, where runuser stays in front of it
	return []string{setpriv, "--reuid=" + postgresUser, "--regid=" + postgresUser, "--init-groups", "--", path}, err
}

const postgresUser = "postgres"

func postgresVersion() (string, error) {
	if _, err := postgres("initdb"); err != nil {
		return "", err
	}
	command, err := postgres("postgres")
	if err != nil {
		return "", err
	}
	return versionOf(command...)
}

// startPostgres makes a cluster of databases and starts a PostgreSQL for it, which waits for no disk.
func startPostgres(dir string) (address string, stop func()) {
	dir = must(os.MkdirTemp(dir, "postgres"))
	port, password := freePort(), rand.Text()
	file := filepath.Join(dir, "password")
	check(os.WriteFile(file, []byte(password), 0o600))
	if os.Geteuid() == 0 {
		u := must(user.Lookup(postgresUser))
		for _, f := range []string{dir, file} {
			check(os.Chown(f, must(strconv.Atoi(u.Uid)), must(strconv.Atoi(u.Gid))))
		}
	}
	data := filepath.Join(dir, "data")
	initdb := must(postgres("initdb"))
	cmd := exec.Command(initdb[0], append(initdb[1:], "--pgdata", data, "--username", "bench", "--pwfile", file, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Errorf("initdb: %w: %s", err, out))
	}
	command := must(postgres("postgres"))
	cmd = exec.Command(command[0], append(command[1:], "-D", data, "-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")...)
	cmd.Dir = dir
	end := started(cmd, dir)
	u := url.URL{Scheme: "postgres", User: url.UserPassword("bench", password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "postgres"}
	answers(cmd, dir, func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, u.String())
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
	return u.String(), func() { end(); check(os.RemoveAll(dir)) }
}

// logFile is what a server says, in its folder.
const logFile = "log"

// started starts a server.
func started(cmd *exec.Cmd, dir string) (end func()) {
	log := must(os.Create(filepath.Join(dir, logFile)))
	cmd.Stdout, cmd.Stderr = log, log
	check(cmd.Start())
	check(log.Close())
	return func() {
		check(cmd.Process.Signal(os.Interrupt)) // in order, and at once
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			panic(err)
		}
	}
}

// answers returns when a server that was started answers.
func answers(cmd *exec.Cmd, dir string, ask func(context.Context) error) {
	ctx, cancel := context.WithTimeout(bg, patience)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			said, _ := os.ReadFile(filepath.Join(dir, logFile)) // for the message alone
			_ = cmd.Process.Kill()                              // it may have ended
			panic(fmt.Errorf("%s does not answer: %w: %s", filepath.Base(cmd.Path), err, said))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freePort returns one that nobody listens on. That it still is so when it is used is likely, not certain.
func freePort() int {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
