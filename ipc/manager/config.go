package manager

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"example.com/futures/worker"
)

// Config sets up a Manager. The zero Config works for [Start], and for [Serve] on a unix socket
// in the file system. It is copied, so changing the caller's value afterwards has no effect.
type Config struct {
	// AuthKey is what both sides prove to each other that they have, without telling it.
	// Nil means none. An empty one that is not nil is refused: it is a key that was not read.
	AuthKey []byte

	// TLS is the server's for Serve, and the client's for Connect. Nil with an AuthKey means TLS
	// 1.3 under a throw-away certificate, which the key vouches for. Start does not use it.
	TLS *tls.Config

	// MaxMessage is the largest argument or result, in bytes, that this side sends or takes.
	// Zero means 64 MiB. A larger one fails its own call.
	MaxMessage int64

	// HandshakeTimeout is how long a peer may take to prove itself. Zero means 10 s.
	HandshakeTimeout time.Duration

	// Worker says how Start starts the server process. Its MaxMessage has no effect.
	Worker worker.Config

	// Logger gets, at level Debug, why clients were lost, and what the server refuses. Nil means
	// slog.Default().
	Logger *slog.Logger
}

// ready returns c with its defaults filled in, or the first field that makes no sense.
func (c Config) ready() (Config, error) {
	switch {
	case c.MaxMessage < 0:
		return c, fmt.Errorf("Config.MaxMessage is %d bytes: want 0 (64 MiB) or more", c.MaxMessage)
	case c.HandshakeTimeout < 0:
		return c, fmt.Errorf("Config.HandshakeTimeout is %v: want 0 (10 s) or more", c.HandshakeTimeout)
	case c.AuthKey != nil && len(c.AuthKey) == 0:
		return c, fmt.Errorf("Config.AuthKey is empty: want nil (no key) or a key")
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = defaultMessage
	}
	c.MaxMessage = min(c.MaxMessage, mostMessage)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}
