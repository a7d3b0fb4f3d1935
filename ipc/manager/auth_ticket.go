package manager

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

const (
	ticketSize = 32
	maxTickets = 1024        // that are valid at a time; the oldest makes room
	ticketLife = time.Minute // a task that is still queued by then asks for another
)

// ticketID returns by what name the server knows a ticket. It tells nothing about it.
func ticketID(ticket []byte) [idSize]byte {
	h := sha256.New()
	h.Write([]byte("futures-manager ticket id\x00"))
	h.Write(ticket)
	return [idSize]byte(h.Sum(nil))
}

// ticketSecret returns what proofs are made with of a ticket.
func ticketSecret(ticket []byte) []byte {
	h := sha256.New()
	h.Write([]byte("futures-manager ticket\x00"))
	h.Write(ticket)
	return h.Sum(nil)
}

// tickets are those of a server that are valid. The zero value has none, and is ready.
type tickets struct {
	mu   sync.Mutex // guards what follows
	byID map[[idSize]byte]*list.Element
	line list.List // of *ticket, the oldest first
}

type ticket struct {
	id     [idSize]byte
	secret []byte
	until  time.Time
}

// issue returns a new ticket.
func (t *tickets) issue() []byte {
	b := make([]byte, ticketSize)
	rand.Read(b)
	entry := &ticket{id: ticketID(b), secret: ticketSecret(b), until: time.Now().Add(ticketLife)}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	if t.line.Len() >= maxTickets {
		t.drop(t.line.Front())
	}
	if t.byID == nil {
		t.byID = make(map[[idSize]byte]*list.Element)
	}
	t.byID[entry.id] = t.line.PushBack(entry)
	return b
}

// redeem calls try with the secret of a ticket. If that returns true, the ticket is used up,
// and no other call of redeem has had it. For a ticket that is not there, try gets a secret
// that nobody has.
func (t *tickets) redeem(id [idSize]byte, try func(secret []byte) bool) bool {
	nobodys := make([]byte, sha256.Size)
	rand.Read(nobodys)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	e := t.byID[id]
	if e == nil {
		try(nobodys)
		return false
	}
	if !try(e.Value.(*ticket).secret) { // nothing else is put in
		return false
	}
	t.drop(e)
	return true
}

// expire drops those whose time is up. mu is held.
func (t *tickets) expire() {
	for now := time.Now(); ; {
		e := t.line.Front()
		if e == nil || now.Before(e.Value.(*ticket).until) { // nothing else is put in
			return
		}
		t.drop(e)
	}
}

func (t *tickets) drop(e *list.Element) {
	delete(t.byID, t.line.Remove(e).(*ticket).id) // nothing else is put in
}
