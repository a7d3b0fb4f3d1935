package manager

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// A handle is one proxy's hold on an object. A connection has one hold, or several, of each
// object that it has proxies of; the server counts those that it has given, and the connection
// gives all of them back when the last proxy goes:
//
//	an answer names an object     the server has counted it already; +1 hold, and the answer
//	                              itself is a proxy until its values are decoded
//	a value is decoded            +1 proxy for each that is in it
//	a proxy is closed, collected  -1 proxy; the last one: Release, with the number of holds
type handle struct {
	conn    *conn
	id      uint64
	name    string // of the type
	closed  atomic.Bool
	marks   atomic.Int32 // how many encoders have it
	cleanup runtime.Cleanup
}

// A local is what a connection has of an object.
type local struct {
	proxies int
	holds   uint64 // that the server has given and not got back
}

// An atlas knows the connections of this process, and what they have.
type atlasOf struct {
	mu       sync.Mutex // guards what follows, and conn.objects and conn.pins. Nothing is sent under it
	conns    map[managerID][]*conn
	expected map[place][]*conn // what values that are being decoded name
}

// A place is an object among those of all managers.
type place struct {
	id     managerID
	object uint64
}

var atlas = atlasOf{conns: map[managerID][]*conn{}, expected: map[place][]*conn{}}

// add makes a connection known.
func (a *atlasOf) add(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns[c.id] = append(a.conns[c.id], c)
}

// remove ends that.
func (a *atlasOf) remove(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.removeLocked(c)
}

func (a *atlasOf) removeLocked(c *conn) {
	left := slices.DeleteFunc(a.conns[c.id], func(k *conn) bool { return k == c })
	if len(left) == 0 {
		delete(a.conns, c.id)
	} else {
		a.conns[c.id] = left
	}
}

// errSpent is why a connection has ended that came with a proxy: the last one was closed.
var errSpent = fmt.Errorf("%w: this process has closed its last proxy of the manager", ipc.ErrClosed)

// spent reports whether the connection is to end, and if so takes it off the atlas, whose mu
// is held.
func (c *conn) spent() bool {
	if c.owned || c.pins > 0 || len(c.objects) > 0 {
		return false
	}
	atlas.removeLocked(c)
	return true
}

// proxy counts one more. atlas.mu is held.
func (c *conn) proxy(id uint64, holds uint64) {
	l := c.objects[id]
	if l == nil {
		l = new(local)
		c.objects[id] = l
	}
	l.proxies++
	l.holds += holds
}

// handle returns a new handle of an object of which a proxy is counted already.
func (c *conn) handle(id uint64, name string) *handle {
	atlas.mu.Lock()
	c.proxy(id, 0)
	atlas.mu.Unlock()
	return c.newHandle(id, name)
}

// newHandle returns a handle that is counted.
func (c *conn) newHandle(id uint64, name string) *handle {
	h := &handle{conn: c, id: id, name: name}
	h.cleanup = runtime.AddCleanup(h, c.drop, id)
	return h
}

func (h *handle) close() {
	if h.closed.CompareAndSwap(false, true) {
		h.cleanup.Stop()
		h.conn.drop(h.id)
	}
}

// drop counts one proxy less.
func (c *conn) drop(id uint64) {
	atlas.mu.Lock()
	l := c.objects[id]
	l.proxies--
	if l.proxies > 0 {
		atlas.mu.Unlock()
		return
	}
	delete(c.objects, id)
	ends := c.spent()
	if !ends && l.holds > 0 {
		// Under mu: a hold that comes later is given back later.
		var w [2 * binary.MaxVarintLen64]byte
		b := binary.AppendUvarint(binary.AppendUvarint(w[:0], id), l.holds)
		_ = c.out.frame(wire.Header{Kind: wire.KindRelease}, b, behind)
	}
	atlas.mu.Unlock()
	if ends {
		c.fail(errSpent)
	}
}

// received notes holds that an answer has brought, and keeps them until unpin.
func (c *conn) received(refs []uint64) {
	atlas.mu.Lock()
	defer atlas.mu.Unlock()
	for _, id := range refs {
		c.proxy(id, 1)
	}
}

// A pin is objects that are held while a call says to keep them.
type pin struct {
	at   *conn
	refs []uint64
}

// pin counts one more proxy of each of these objects, until unpin. It reports false if there is
// no proxy of one, and has done nothing.
func (c *conn) pin(refs []uint64) bool {
	atlas.mu.Lock()
	defer atlas.mu.Unlock()
	for _, id := range refs {
		if c.objects[id] == nil {
			return false
		}
	}
	for _, id := range refs {
		c.proxy(id, 0)
	}
	return true
}

func (c *conn) unpin(refs []uint64) {
	for _, id := range refs {
		c.drop(id)
	}
}

// expect says that a value that is being decoded names these objects, until unexpect. They
// have been received, and not been unpinned.
func (c *conn) expect(refs []uint64) {
	atlas.mu.Lock()
	defer atlas.mu.Unlock()
	for _, id := range refs {
		at := place{c.id, id}
		atlas.expected[at] = append(atlas.expected[at], c)
	}
}

func (c *conn) unexpect(refs []uint64) {
	atlas.mu.Lock()
	defer atlas.mu.Unlock()
	for _, id := range refs {
		at := place{c.id, id}
		all := atlas.expected[at]
		if i := slices.Index(all, c); i >= 0 {
			all = slices.Delete(all, i, i+1)
		}
		if len(all) == 0 {
			delete(atlas.expected, at)
		} else {
			atlas.expected[at] = all
		}
	}
}

// claimExpected returns a handle of an object that a value names, nil if none does.
func claimExpected(at place, name string) *handle {
	atlas.mu.Lock()
	all := atlas.expected[at]
	if len(all) == 0 {
		atlas.mu.Unlock()
		return nil
	}
	c := all[0]
	c.proxy(at.object, 0)
	atlas.mu.Unlock()
	return c.newHandle(at.object, name)
}

// carryID is the same for all proxies of the object: what comes along with one of them does
// for all.
func (h *handle) carryID() (id carry.ID) {
	copy(id[:8], h.conn.id[:])
	binary.LittleEndian.PutUint64(id[8:], h.id)
	return id
}

// encoded returns what a proxy travels as, beside what comes along.
func (h *handle) encoded() []byte {
	b := append([]byte(nil), h.conn.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.id)
	return append(b, h.name...)
}

// arrive returns a handle of what came encoded as b, a proxy of a type with this name.
func arrive(b []byte, name string) (*handle, error) {
	var at place
	if len(b) < len(at.id)+8 {
		return nil, fmt.Errorf("manager: an encoded proxy has %d bytes, which are too few", len(b))
	}
	copy(at.id[:], b)
	at.object = binary.LittleEndian.Uint64(b[len(at.id):])
	if is := string(b[len(at.id)+8:]); is != name {
		return nil, fmt.Errorf("manager: a proxy of a %s is not one of a %s", is, name)
	}
	if h := claimExpected(at, name); h != nil {
		return h, nil
	}
	h := &handle{conn: &conn{id: at.id}, id: at.object}
	fds, ok, err := carry.Claim(h.carryID())
	if err == nil && !ok {
		err = fmt.Errorf("%w: nothing that leads to its manager came along", executor.ErrNotPortable)
	}
	if err == nil {
		h, err = imported(at, name, fds)
	}
	if err != nil {
		return nil, fmt.Errorf("manager: a proxy of a %s that came from another process: %w", name, err)
	}
	return h, nil
}
