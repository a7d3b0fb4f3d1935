package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	neturl "net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/futures/executor"
	"example.com/futures/processpool"
)

// Config sets up a [Pool]. The zero Config works where a NATS server with JetStream
// listens at nats://127.0.0.1:4222. New copies it.
type Config struct {
	// URL is that of the NATS servers, comma-separated. Empty means
	// nats://127.0.0.1:4222.
	URL string

	// Options are handed to the NATS client as they are: credentials, TLS and whatever
	// else it knows. They come after the pool's own, and so replace them, but for handlers
	// of a lost connection, a new one and errors: these are called after the pool's.
	Options []nats.Option

	// Name is that of the pool: all programs and workers of that name share its queue.
	// It is a part of subjects and streams, so letters, digits, '-' and '_' are allowed.
	// Empty means "futures".
	Name string

	// Client is the name of this program among those that use the pool. Who starts again
	// under the same name can [Attach] to its own calls, and no two run under one name at
	// a time. Empty means a random one. The letters are those of Name.
	Client string

	// Build, if it is not empty, gives the calls only to workers that serve this build:
	// see docs/cluster.md on rolling upgrades. The letters are those of Name.
	Build string

	// Replicas is how many servers keep each stream that the pool makes: 1 to 5. Zero
	// means 1. Streams that are there already stay as they are.
	Replicas int

	// Memory has the streams that the pool makes kept in the servers' memory: they are
	// gone with the servers. Otherwise they are in files.
	Memory bool

	// Lease is how long the pool believes in a worker from which nothing is heard. Zero
	// means 10 s. The least is 500 ms. It ought to be that of the workers.
	Lease time.Duration

	// KeepResults is how long the outcome of a call is kept by the servers, for [Attach].
	// Zero means 1 h; the least is ten leases, for as long as a worker may come late.
	// Outcomes that this pool has taken in are let go of earlier where they are more than
	// some 250,000.
	KeepResults time.Duration

	// QueueLimit is how many calls of this pool may wait for a worker. Zero means any
	// number. Submit waits for room, unless RejectWhenFull is set: then such a call fails
	// with executor.ErrQueueFull. The servers' own limits on what is queued have the same
	// effect, whoever has queued it.
	QueueLimit     int
	RejectWhenFull bool

	// Inject, if it is not nil, puts what identifies the trace of ctx, that of a call,
	// into the headers of its message, by set: traceparent and tracestate, for example.
	// The Inject method of an OpenTelemetry propagator does that.
	Inject func(ctx context.Context, set func(key, value string))

	// Observer is told what the pool does. Nil is none.
	Observer executor.Observer

	// Logger is where the pool logs to. Nil means slog.Default.
	Logger *slog.Logger
}

// ServeConfig sets up a worker, see [Serve]. The zero ServeConfig works where Config's
// does.
type ServeConfig struct {
	// URL, Options, Name and Build are those of [Config].
	URL     string
	Options []nats.Option
	Name    string
	Build   string

	// Worker is the worker's own name, for logs and errors. Empty means one made of the
	// host's and a random number. The letters are those of Name, and no two workers have
	// the same at a time.
	Worker string

	// Slots is how many calls run at the same time. Zero means the workers of Isolate, or
	// else runtime.GOMAXPROCS(0).
	Slots int

	// Lease is how long this worker keeps a call without being heard of: then it is
	// somebody else's. Zero means 10 s. The least is 500 ms. All workers of a pool have
	// the same; the one that starts last sets it.
	Lease time.Duration

	// Isolate, if it is not nil, has each call run in a worker process of this machine, as
	// that configuration says, so that a crash, a hang or a hunger for memory costs one
	// call and not this worker. Of its Workers zero means Slots; its QueueLimit must be zero.
	Isolate *processpool.Config

	// Grace is how long calls may go on running after the ctx of Serve has ended. Zero
	// means 10 s; a negative value none at all. Those with retries are then given back to
	// the queue, the others are interrupted.
	Grace time.Duration

	// Extract, if it is not nil, is the counterpart of Config.Inject: it returns ctx, that
	// of a call, with what get finds in the headers of its message. It concerns calls that
	// are not isolated.
	Extract func(ctx context.Context, get func(key string) string) context.Context

	// Logger is where the worker logs to. Nil means slog.Default.
	Logger *slog.Logger
}

// Defaults and bounds.
const (
	defaultName  = "futures"
	defaultLease = 10 * time.Second
	leastLease   = 500 * time.Millisecond
	defaultKeep  = time.Hour
	defaultGrace = 10 * time.Second

	mostSlots = 1 << 20 // of a worker

	// keepLeases is how many leases an outcome is kept at least. It must outlive every
	// delivery of its task that may still come, or a late one would find no record and
	// start the call once more (pitfall 4).
	keepLeases = 10
)

func (c *Config) prepare() error {
	common := settings{"Config", &c.URL, &c.Name, &c.Build, &c.Lease, &c.Logger}
	if err := common.prepare(); err != nil {
		return err
	}
	switch {
	case c.Client != "" && !isName(c.Client):
		return badName("Config.Client", c.Client)
	case c.Replicas < 0 || c.Replicas > 5:
		return fmt.Errorf("clusterpool: Config.Replicas is %d: 1 to 5 servers can keep a stream", c.Replicas)
	case c.KeepResults < 0:
		return fmt.Errorf("clusterpool: Config.KeepResults is %v: it cannot be negative", c.KeepResults)
	case c.KeepResults > 0 && c.KeepResults < keepLeases*c.Lease:
		return fmt.Errorf("clusterpool: Config.KeepResults is %v: it must be ten times Lease, which is %v, or more", c.KeepResults, c.Lease)
	case c.QueueLimit < 0:
		return fmt.Errorf("clusterpool: Config.QueueLimit is %d: it cannot be negative", c.QueueLimit)
	}
	if c.Client == "" {
		c.Client = randomName(12)
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.KeepResults == 0 {
		c.KeepResults = max(defaultKeep, keepLeases*c.Lease)
	}
	return nil
}

func (c *ServeConfig) prepare() error {
	common := settings{"ServeConfig", &c.URL, &c.Name, &c.Build, &c.Lease, &c.Logger}
	if err := common.prepare(); err != nil {
		return err
	}
	switch {
	case c.Worker != "" && !isName(c.Worker):
		return badName("ServeConfig.Worker", c.Worker)
	case c.Slots < 0 || c.Slots > mostSlots:
		return fmt.Errorf("clusterpool: ServeConfig.Slots is %d: it must be 0 to %d", c.Slots, mostSlots)
	case c.Isolate != nil && c.Isolate.QueueLimit != 0:
		return fmt.Errorf("clusterpool: ServeConfig.Isolate.QueueLimit is %d: leave it at 0, for a worker takes no more calls than it has Slots", c.Isolate.QueueLimit)
	}
	if c.Worker == "" {
		host, _ := os.Hostname() // only a label
		c.Worker = sanitized(host) + "-" + randomName(6)
	}
	if c.Isolate != nil {
		own := *c.Isolate
		c.Isolate = &own
		if c.Slots == 0 {
			c.Slots = own.Workers
		}
	}
	if c.Slots == 0 {
		c.Slots = runtime.GOMAXPROCS(0)
	}
	if c.Isolate != nil && c.Isolate.Workers == 0 {
		c.Isolate.Workers = c.Slots
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	c.Grace = max(c.Grace, 0)
	return nil
}

// settings are what Config and ServeConfig have in common.
type settings struct {
	of               string
	url, name, build *string
	lease            *time.Duration
	logger           **slog.Logger
}

func (s settings) prepare() error {
	switch {
	case *s.name != "" && !isName(*s.name):
		return badName(s.of+".Name", *s.name)
	case *s.build != "" && !isName(*s.build), *s.build == buildToken(""):
		return badName(s.of+".Build", *s.build)
	case *s.lease < 0 || *s.lease > 0 && *s.lease < leastLease:
		return fmt.Errorf("clusterpool: %s.Lease is %v: it must be %v or more, or 0 for %v", s.of, *s.lease, leastLease, defaultLease)
	}
	if *s.url == "" {
		*s.url = nats.DefaultURL
	}
	if *s.name == "" {
		*s.name = defaultName
	}
	if *s.lease == 0 {
		*s.lease = defaultLease
	}
	if *s.logger == nil {
		*s.logger = slog.Default()
	}
	return nil
}

func badName(field, name string) error {
	return fmt.Errorf("clusterpool: %s is %q: it is a part of NATS subjects, so use 1 to 64 letters, digits, '-' and '_'", field, name)
}

// connect dials the servers, or returns an error of ctx's cause as soon as that ends. role says
// which end of a call the connection is; from over on a loss of it is nobody's concern.
func connect(ctx context.Context, url, role string, log *slog.Logger, over <-chan struct{}, reconnected func(), denied *denials, options []nats.Option) (*nats.Conn, error) {
	all := append([]nats.Option{
		nats.Name("futures " + role),
		// Who is cut off must notice: the client's own 2 minutes are too long (pitfall 8).
		nats.PingInterval(time.Second),
		nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials may be changed on both sides, one after the other
		nats.CustomReconnectDelay(reconnectDelay),
		nats.Timeout(5 * time.Second),
	}, options...)
	all = append(all, func(o *nats.Options) error {
		theirs := *o
		o.DisconnectedErrCB = func(nc *nats.Conn, err error) {
			select {
			case <-over:
			default:
				if err != nil {
					log.Warn("clusterpool: disconnected", "role", role, "err", err)
				}
			}
			if theirs.DisconnectedErrCB != nil {
				theirs.DisconnectedErrCB(nc, err)
			}
		}
		o.ReconnectedCB = func(nc *nats.Conn) {
			log.Info("clusterpool: connected again", "role", role, "server", nc.ConnectedServerName())
			reconnected()
			if theirs.ReconnectedCB != nil {
				theirs.ReconnectedCB(nc)
			}
		}
		o.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
			log.Warn("clusterpool: "+err.Error(), "role", role)
			denied.note(err)
			if theirs.AsyncErrorCB != nil {
				theirs.AsyncErrorCB(nc, sub, err)
			}
		}
		return nil
	})
	type dialled struct {
		nc  *nats.Conn
		err error
	}
	var nc *nats.Conn
	err := context.Cause(ctx)
	if err == nil {
		end := make(chan dialled)
		go func() { // until Timeout, for each server, has passed at the latest: dialling knows no ctx
			nc, err := nats.Connect(url, all...)
			select {
			case end <- dialled{nc, err}:
			case <-ctx.Done():
				if err == nil {
					nc.Close()
				}
			}
		}()
		select {
		case d := <-end:
			nc, err = d.nc, d.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if _, ok := errors.AsType[*neturl.Error](err); ok { // its text has the password
		err = errors.New("the URL makes no sense: in a user or password, other characters than letters and digits are to be written as %XX")
	}
	if err != nil {
		return nil, fmt.Errorf("clusterpool: connecting to %s: %w", redacted(url), err)
	}
	return nc, nil
}

// reconnectDelay is how long to wait before all servers are tried again. After some 8 s it is
// longer: each try that is refused for its credentials leaves a descriptor open, until the
// next garbage collection, which may take 2 minutes to come.
func reconnectDelay(tries int) time.Duration {
	wait := 100 * time.Millisecond
	if tries > 50 {
		wait = time.Second
	}
	return wait + rand.N(wait)
}

// redacted returns url without passwords.
func redacted(url string) string {
	all := strings.Split(url, ",")
	for i, u := range all {
		if at := strings.LastIndexByte(u, '@'); at >= 0 {
			scheme := ""
			if j := strings.Index(u, "://"); j >= 0 {
				scheme = u[:j+3]
			}
			all[i] = scheme + u[at+1:]
		}
	}
	return strings.Join(all, ",")
}

var errNoBroker = errors.New("clusterpool: no answer from the servers")
