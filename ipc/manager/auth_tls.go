package manager

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// What both sides must agree on, so that a certificate that is good for something else, too, is
// not brought into play here.
const (
	alpn       = "futures-manager"
	alpnTicket = "futures-manager-ticket" // of a client that has a ticket and nothing else
)

const exporterLabel = "EXPORTER-futures-manager"

// exporter returns what ties proofs to the TLS session of conn.
func exporter(state tls.ConnectionState) (binding, error) {
	b, err := state.ExportKeyingMaterial(exporterLabel, nil, len(binding{}))
	if err != nil {
		return binding{}, err
	}
	return binding(b), nil
}

// throwAway returns a certificate that nobody is asked to trust.
func throwAway() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "futures manager"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, 4.1.2.5: no end
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// checkTLS reports what is wrong with c for either side. c may be nil.
func checkTLS(c *tls.Config) error {
	if c != nil && c.MaxVersion != 0 && c.MaxVersion < tls.VersionTLS13 {
		return fmt.Errorf("TLS.MaxVersion is %s: a manager needs TLS 1.3", tls.VersionName(c.MaxVersion))
	}
	return nil
}

// checkVerifies returns nil if c, which may be nil, lets only clients in whose certificate it
// has verified.
func checkVerifies(c *tls.Config) error {
	switch {
	case c == nil:
		return errors.New("there is neither an AuthKey nor a TLS config that verifies client certificates")
	case c.ClientAuth != tls.RequireAndVerifyClientCert:
		return fmt.Errorf("without an AuthKey TLS.ClientAuth has to be RequireAndVerifyClientCert, and is %v", c.ClientAuth)
	case c.ClientCAs == nil:
		return errors.New("without an AuthKey TLS.ClientCAs has to say whose certificates are good: " +
			"nil means every authority that the system knows")
	}
	return nil
}

// harden returns a copy of c for our protocol alone. A session is never resumed: each has its
// own certificates checked and proofs made.
func harden(c *tls.Config, proto string) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{proto}
	c.SessionTicketsDisabled = true
	c.ClientSessionCache = nil
	return c
}

// serverTLS returns what a server with base, which may be nil, shows to its clients. Those that
// come with a ticket are shown the certificate own, and not asked for theirs. With mustVerify a
// config that base chooses for a client has to verify it, too.
func serverTLS(base *tls.Config, own tls.Certificate, mustVerify bool) *tls.Config {
	if base == nil {
		base = new(tls.Config)
	}
	c := harden(base, alpn)
	if !hasCertificate(c) {
		c.Certificates = []tls.Certificate{own}
	}
	forTickets := harden(&tls.Config{Certificates: []tls.Certificate{own}}, alpnTicket)
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, alpnTicket) {
			return forTickets, nil
		}
		if base.GetConfigForClient == nil {
			return nil, nil
		}
		chosen, err := base.GetConfigForClient(hello)
		if err != nil || chosen == nil {
			return nil, err
		}
		if mustVerify {
			if err := checkVerifies(chosen); err != nil {
				return nil, fmt.Errorf("TLS.GetConfigForClient: %w", err)
			}
		}
		return harden(chosen, alpn), nil
	}
	return c
}

func hasCertificate(c *tls.Config) bool {
	return len(c.Certificates) > 0 || c.GetCertificate != nil
}

// clientTLS returns what a client with base, which may be nil, does. Without base the server's
// certificate is not looked at: with a key, the proof says who it is.
func clientTLS(base *tls.Config, network, addr string, keyed bool) (*tls.Config, error) {
	if base == nil {
		return harden(&tls.Config{InsecureSkipVerify: true}, alpn), nil // see above
	}
	c := harden(base, alpn)
	switch {
	case c.InsecureSkipVerify:
		if !keyed && c.VerifyConnection == nil && c.VerifyPeerCertificate == nil {
			return nil, errors.New("TLS.InsecureSkipVerify without an AuthKey: nothing would prove who the server is")
		}
	case c.ServerName == "" && network == "unix":
		return nil, errors.New("TLS.ServerName has to name the server, for a unix socket has no host name")
	case c.ServerName == "":
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		c.ServerName = host
	}
	return c, nil
}

// ticketTLS returns what a client with a ticket does: pin is the SHA-256 of the certificate that
// the server shows to such.
func ticketTLS(pin []byte) *tls.Config {
	c := harden(&tls.Config{InsecureSkipVerify: true}, alpnTicket)
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) > 0 &&
			subtle.ConstantTimeCompare(fingerprint(state.PeerCertificates[0].Raw), pin) == 1 {
			return nil
		}
		return errors.New("the server's certificate is not the one that came with the ticket")
	}
	return c
}

func fingerprint(certificate []byte) []byte {
	sum := sha256.Sum256(certificate)
	return sum[:]
}
