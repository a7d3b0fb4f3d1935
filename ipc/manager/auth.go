package manager

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// How both sides show that they have the same secret. It happens inside of TLS 1.3, before
// anything else is said; only on a plain unix socket it goes by without TLS.
//
//	client                                                            server
//	   | ---- TLS handshake. On a plain socket: an opening (8 bytes) ---> |
//	   | <-------------------------------------- greeting (40 bytes) ---- |   its version and nonce
//	   | ---- answer (88 bytes) ----------------------------------------> |   the client's nonce and proof
//	   | <--------------------------------------- verdict (40 bytes) ---- |   the server's proof
//
// A proof is HMAC-SHA256, under the secret, of
//
//	the role of who proves · the TLS session's exported keying material · greeting · answer up to its proof
//
//   - The keying material is known to the two ends of one TLS session and differs between any
//     two. So a proof that a man in the middle passes on between two sessions of his is worth
//     nothing, and neither is one that was recorded. That is why the certificate may be a
//     throw-away one.
//   - The role keeps a proof from being sent back to who made it.
//   - The nonces do for a plain socket what the keying material does, and more than enough
//     for TLS.
//   - Version and method are in what is proved. Nothing is negotiated: each side knows what
//     it demands, and leaves if the other differs. So there is nothing to downgrade.
//   - The server speaks first, so that a client whose certificate it refused has sent nothing
//     that could make the system throw the alert away. The client proves first, so that who
//     merely connects gets nothing that he could try keys on.
//
// Every size is fixed, and nothing is decoded.

// protocol is the version of all this, and of what is said afterwards.
const protocol = 1

const (
	magic = "futM" // starts every message, and no record of TLS

	idSize    = 16
	nonceSize = 32
	proofSize = sha256.Size

	headSize     = len(magic) + 4
	greetingSize = headSize + nonceSize
	provenSize   = headSize + idSize + nonceSize // of an answer: what its proof is about
	answerSize   = provenSize + proofSize
	verdictSize  = headSize + proofSize
)

// A method is how a client shows who it is. The server demands one.
type method byte

const (
	byPlace  method = iota // by being where it is: behind a socket of mode 0600, or a certificate
	byKey                  // by Config.AuthKey
	byTicket               // by a ticket of the server
)

func (m method) String() string {
	switch m {
	case byPlace:
		return "no key"
	case byKey:
		return "a key"
	case byTicket:
		return "a ticket"
	}
	return fmt.Sprintf("method %d", byte(m))
}

// A status is what the server says about what it was sent.
type status byte

const (
	statusFine    status = iota
	statusVersion        // another version
	statusMethod         // another method, or no TLS where the server has it
	statusProof          // the proof is wrong
)

// head writes the first bytes of a message.
func head(b []byte, s status, m method) {
	copy(b, magic)
	binary.BigEndian.PutUint16(b[len(magic):], protocol)
	b[headSize-2] = byte(s)
	b[headSize-1] = byte(m)
}

// errVersion is for a peer of another version. It matches ErrAuth.
func errVersion(b []byte) error {
	return fmt.Errorf("%w: it speaks version %d of the protocol, and this program version %d",
		ErrAuth, binary.BigEndian.Uint16(b[len(magic):]), protocol)
}

// readMessage fills b with a message. It looks at the head before it waits for the rest, for
// another version may have other sizes.
func readMessage(r io.Reader, b []byte) (status, method, error) {
	if _, err := io.ReadFull(r, b[:headSize]); err != nil {
		return 0, 0, err
	}
	switch {
	case string(b[:len(magic)]) != magic:
		return 0, 0, fmt.Errorf("%w: it does not speak the protocol of a manager", ErrAuth)
	case binary.BigEndian.Uint16(b[len(magic):]) != protocol:
		return 0, 0, errVersion(b)
	}
	_, err := io.ReadFull(r, b[headSize:])
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return status(b[headSize-2]), method(b[headSize-1]), err
}

// A binding ties proofs to one connection: the keying material of its TLS session, or zeros.
type binding [32]byte

// The roles have one length, so that no two inputs of the HMAC can be the same.
const (
	clientRole = "futures-manager client\x00"
	serverRole = "futures-manager server\x00"
)

// proof returns what who has role sends.
func proof(secret []byte, role string, on binding, greeting, answer []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(role))
	mac.Write(on[:])
	mac.Write(greeting)
	mac.Write(answer[:provenSize])
	return mac.Sum(nil)
}

// keySecret returns what proofs are made with of a key. It is not the key itself because of
// HMAC, for which a key and the same key with a zero behind it are one.
func keySecret(key []byte) []byte {
	h := sha256.New()
	h.Write([]byte("futures-manager key\x00"))
	h.Write(key)
	return h.Sum(nil)
}

// vetClient is the server's side. It returns nil once the client has proved itself by how.
//
// secretOf calls try with the secret that has an id, and returns what that does. It calls it
// with any other where there is none, so that this cannot be told from a wrong proof.
func vetClient(rw io.ReadWriter, on binding, how method, secretOf func(id [idSize]byte, try func(secret []byte) bool) bool) error {
	greeting := make([]byte, greetingSize)
	head(greeting, statusFine, how)
	rand.Read(greeting[headSize:])
	if _, err := rw.Write(greeting); err != nil {
		return err
	}

	verdict := make([]byte, verdictSize)
	refuse := func(s status, err error) error {
		head(verdict, s, how)
		clear(verdict[headSize:])
		_, _ = rw.Write(verdict) // who has left need not know
		return err
	}
	answer := make([]byte, answerSize)
	s, m, err := readMessage(rw, answer)
	switch {
	case errors.Is(err, ErrAuth):
		return refuse(statusVersion, err)
	case err != nil:
		return err
	case s != statusFine || m != how:
		return refuse(statusMethod, fmt.Errorf("%w: it comes with %v, and the server demands %v", ErrAuth, m, how))
	}
	right := secretOf([idSize]byte(answer[headSize:]), func(secret []byte) bool {
		if !hmac.Equal(answer[provenSize:], proof(secret, clientRole, on, greeting, answer)) {
			return false
		}
		head(verdict, statusFine, how)
		copy(verdict[headSize:], proof(secret, serverRole, on, greeting, answer))
		return true
	})
	if !right {
		return refuse(statusProof, fmt.Errorf("%w: its proof is wrong", ErrAuth))
	}
	_, err = rw.Write(verdict)
	return err
}

// vetServer is the client's side. It returns nil once the server has accepted the proof and
// given its own.
func vetServer(rw io.ReadWriter, on binding, how method, id [idSize]byte, secret []byte) error {
	greeting := make([]byte, greetingSize)
	s, m, err := readMessage(rw, greeting)
	switch {
	case err != nil:
		return err
	case s != statusFine:
		return fmt.Errorf("%w: the server demands TLS and %v", ErrAuth, m)
	case m != how:
		return fmt.Errorf("%w: the server demands %v, and this side comes with %v", ErrAuth, m, how)
	}

	answer := make([]byte, answerSize)
	head(answer, statusFine, how)
	copy(answer[headSize:], id[:])
	rand.Read(answer[headSize+idSize : provenSize])
	copy(answer[provenSize:], proof(secret, clientRole, on, greeting, answer))
	if _, err := rw.Write(answer); err != nil {
		return err
	}

	verdict := make([]byte, verdictSize)
	s, _, err = readMessage(rw, verdict)
	switch {
	case err != nil:
		return err
	case s != statusFine:
		return fmt.Errorf("%w: the server refused the proof", ErrAuth)
	case !hmac.Equal(verdict[headSize:], proof(secret, serverRole, on, greeting, answer)):
		return fmt.Errorf("%w: the server's proof is wrong", ErrAuth)
	}
	return nil
}
