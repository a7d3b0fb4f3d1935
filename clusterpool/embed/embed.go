// Package embed runs the real NATS server inside this process, for programs that are to run
// by themselves, for tests, and for a first look: who has a cluster does not link it.
//
// [New] is a pool with all it needs, in one call. The calls run in worker processes of this
// machine, as those of a processpool do, and the pool is used like any other:
//
//	func main() {
//		worker.Main()
//		p, err := embed.New(ctx, clusterpool.Config{}, 4)
//		if err != nil { … }
//		defer p.Close()
//		…
//	}
//
// [Start] is a server alone, that other processes can connect to: workers on this machine or,
// where it is told to listen to the outside, on others.
//
// An embedded server ends with its program, and what was queued in its memory with it
// (pitfall 16 of docs/cluster.md). For calls that shall outlive the program that submits them
// there are servers of their own.
package embed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"example.com/futures/clusterpool"
	"example.com/futures/executor"
	"example.com/futures/processpool"
)

// Config sets up a [Server]. The zero Config is a server in memory that listens on a free
// port of the loopback interface.
type Config struct {
	// Dir is where streams in files are kept, to be found again by the next server with the
	// same Dir. Empty means that they are kept in memory only.
	Dir string

	// Listen is the address, host:port, that the server listens at. Empty means a free port
	// of 127.0.0.1; "none" that it cannot be reached from outside of this process.
	Listen string

	// SyncAlways has every message synced to the disk before it is acknowledged. Otherwise
	// that happens every 2 minutes, and a loss of power, not of the process, may lose what
	// was acknowledged since (pitfall 1). It costs most of the throughput.
	SyncAlways bool

	// MaxMemory and MaxStore are how many bytes all streams may take, in memory and in Dir.
	// Zero means 1 GiB and 10 GiB. The server's own defaults are three quarters of the
	// machine's.
	MaxMemory, MaxStore int64

	// MaxPayload is the largest message, in bytes. Zero means 1 MiB. What is larger goes
	// through the object store.
	MaxPayload int32

	// Options, if it is not nil, may change what the server is started with: TLS, accounts,
	// clusters and whatever else it knows.
	Options func(*server.Options)

	// Logger is where the server logs to. Nil means not at all.
	Logger *slog.Logger
}

// A Server is a NATS server in this process. It is made by [Start]; whoever made it closes
// it. Its methods are safe for concurrent use.
type Server struct {
	ns       *server.Server
	url      string
	user     string
	password string
	once     sync.Once
	dir      string   // to be removed; "": none
	lock     *os.File // of Config.Dir, or nil
}

// startPatience is how long a server may take to be ready.
const startPatience = 30 * time.Second

// Start starts a server. ctx is for the start alone. Who connects needs what URL says,
// which has a random user and password, unless Options sets others.
//
// Errors: an address that is taken or not this machine's; a directory that cannot be
// written, or that another Server uses, which can be seen on Linux, macOS and BSD.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.MaxMemory < 0 || cfg.MaxStore < 0 || cfg.MaxPayload < 0 {
		return nil, fmt.Errorf("embed: Config.MaxMemory is %d, MaxStore %d, MaxPayload %d: none can be negative", cfg.MaxMemory, cfg.MaxStore, cfg.MaxPayload)
	}
	s := &Server{user: "futures", password: secret()}
	o := &server.Options{
		ServerName: "futures-" + secret()[:8],
		Username:   s.user, Password: s.password,
		JetStream:          true,
		JetStreamMaxMemory: or(cfg.MaxMemory, 1<<30),
		JetStreamMaxStore:  or(cfg.MaxStore, 10<<30),
		StoreDir:           cfg.Dir,
		SyncAlways:         cfg.SyncAlways,
		MaxPayload:         int32(or(int64(cfg.MaxPayload), 1<<20)),
		NoSigs:             true, // signals are the program's
		// Nearly every message has a subject of its own, of a call: remembering who listens
		// to it costs more than looking.
		NoSublistCache: true,
	}
	if err := s.listen(o, cfg.Listen); err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		var err error
		if s.dir, err = os.MkdirTemp("", "futures-nats-"); err != nil { // it insists on one
			return nil, fmt.Errorf("embed: %w", err)
		}
		o.StoreDir = s.dir
	} else {
		var err error
		if s.lock, err = lock(cfg.Dir); err != nil {
			return nil, fmt.Errorf("embed: Config.Dir is %q: %w", cfg.Dir, err)
		}
	}
	if cfg.Options != nil {
		cfg.Options(o)
		s.user, s.password = o.Username, o.Password
	}
	if err := s.start(ctx, o, cfg.Logger); err != nil {
		s.leaveDir()
		return nil, err
	}
	return s, nil
}

func (s *Server) listen(o *server.Options, listen string) error {
	switch listen {
	case "none":
		o.DontListen = true // it would stop routes between servers, too
		return nil
	case "":
		o.Host, o.Port = "127.0.0.1", server.RANDOM_PORT
		return nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err == nil {
		o.Host = host
		o.Port, err = strconv.Atoi(port)
	}
	if err != nil {
		return fmt.Errorf("embed: Config.Listen is %q: it must be host:port, or \"none\": %w", listen, err)
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	return nil
}

func (s *Server) start(ctx context.Context, o *server.Options, log *slog.Logger) error {
	if ctx.Err() != nil {
		return fmt.Errorf("embed: starting the server: %w", context.Cause(ctx))
	}
	ns, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	fatal := make(chan string, 1)
	ns.SetLoggerV2(logger{log, fatal}, false, false, false)
	s.ns = ns
	go ns.Start() // ends when the server is shut down
	deadline := time.Now().Add(startPatience)
	for !ns.ReadyForConnections(10 * time.Millisecond) {
		var err error
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case text := <-fatal: // it would neither end nor get ready
			err = errors.New(text)
		default:
			if time.Now().After(deadline) {
				err = fmt.Errorf("it does not get ready in %v", startPatience)
			}
		}
		if err != nil {
			ns.Shutdown()
			ns.WaitForShutdown()
			return fmt.Errorf("embed: starting the server: %w", err)
		}
	}
	if !o.DontListen {
		u := url.URL{Scheme: "nats", Host: ns.Addr().String()}
		if s.user != "" {
			u.User = url.UserPassword(s.user, s.password)
		}
		s.url = u.String()
	}
	return nil
}

// URL returns what clients and workers connect to, the password included; "" if the server
// does not listen.
func (s *Server) URL() string { return s.url }

// Options returns what a client or worker in this process connects by, past the network:
// for the Options of their Config, with an empty URL.
func (s *Server) Options() []nats.Option {
	all := []nats.Option{nats.InProcessServer(s.ns)}
	if s.user != "" {
		all = append(all, nats.UserInfo(s.user, s.password))
	}
	return all
}

// Close ends the server and waits for it. Streams in memory are gone. It always returns
// nil.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		s.leaveDir()
	})
	return nil
}

func (s *Server) leaveDir() {
	if s.lock != nil {
		s.lock.Close()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // what is left is in the system's directory for that
	}
}

// New returns a pool with all it needs in this process: a server in memory that nobody else
// can reach, and so many worker processes of this machine, for each of which one call runs at
// a time. They are this program once more, so it calls worker.Main first, as for a
// processpool. Shutdown and Close of the pool end all of it. ctx is for the start alone.
//
// What cfg says of URL, Memory and Replicas does not count; Options come after the pool's
// own. Zero workers means runtime.GOMAXPROCS(0).
//
// Errors: those of [clusterpool.New]; workers below zero; a program that has not called
// worker.Main.
func New(ctx context.Context, cfg clusterpool.Config, workers int) (*clusterpool.Pool, error) {
	if workers < 0 {
		return nil, fmt.Errorf("embed: workers is %d: it cannot be negative", workers)
	}
	s, err := Start(ctx, Config{Listen: "none"})
	if err != nil {
		return nil, err
	}
	cfg.Options = slices.Concat(s.Options(), cfg.Options)
	cfg.URL, cfg.Memory, cfg.Replicas = "", true, 1
	p, err := clusterpool.New(ctx, cfg)
	if err != nil {
		s.Close()
		return nil, err
	}
	p.OnGone(s.Close)
	err = Serve(ctx, p, clusterpool.ServeConfig{
		Options: cfg.Options, Name: cfg.Name, Build: cfg.Build, Lease: cfg.Lease, Logger: cfg.Logger,
		Isolate: &processpool.Config{Workers: workers},
	})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Serve runs a worker of the pool p in this process, beside its client, until p is shut
// down: [clusterpool.Serve] in the background. It returns when p knows of the worker. If the
// worker cannot work any more, and p knows of no other, p is broken.
//
// Errors: those of clusterpool.Serve, as far as they come before the worker is ready; the
// cause of ctx.
func Serve(ctx context.Context, p *clusterpool.Pool, cfg clusterpool.ServeConfig) error {
	if cfg.Worker == "" {
		cfg.Worker = "local-" + secret()[:12]
	}
	if cfg.Grace == 0 {
		cfg.Grace = -1 // when it is to end, nothing runs any more but other clients' calls
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	var failure error // once it has ended
	go func() {       // ends with the pool
		defer close(ended)
		failure = clusterpool.Serve(serving, cfg)
		var broken *executor.BrokenError
		if errors.As(failure, &broken) && !slices.ContainsFunc(p.Workers(), func(w clusterpool.WorkerInfo) bool { return w.Name != cfg.Worker }) {
			p.Break(broken.Cause)
		}
	}()
	p.OnGone(func() error {
		stop()
		<-ended
		if _, broken := errors.AsType[*executor.BrokenError](failure); broken {
			return nil // the pool has said so
		}
		return failure
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			if failure == nil {
				return errors.New("embed: the worker has ended")
			}
			return failure
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C: // between two looks
		}
		if slices.ContainsFunc(p.Workers(), func(w clusterpool.WorkerInfo) bool { return w.Name == cfg.Worker }) {
			return nil
		}
	}
}

func or(n, otherwise int64) int64 {
	if n == 0 {
		return otherwise
	}
	return n
}

// secret returns 32 random letters and digits.
func secret() string {
	b := make([]byte, 16)
	_, _ = io.ReadFull(rand.Reader, b) // never fails
	return hex.EncodeToString(b)
}

// A logger has the server log to a slog.Logger, if there is one, and tells of the first
// error that the server cannot start with.
type logger struct {
	log   *slog.Logger
	fatal chan<- string // holds one
}

func (l logger) say(level slog.Level, format string, v []any) {
	if l.log != nil {
		l.log.Log(context.Background(), level, "nats: "+fmt.Sprintf(format, v...))
	}
}

func (l logger) Fatalf(format string, v ...any) {
	l.say(slog.LevelError, format, v)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

func (l logger) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l logger) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l logger) Noticef(format string, v ...any) { l.say(slog.LevelInfo, format, v) }
func (l logger) Debugf(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l logger) Tracef(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
