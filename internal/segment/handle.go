package segment

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"example.com/futures/internal/carry"
)

// A Handle is this process's hold on an object. It is safe for concurrent use.
//
// A Handle that is dropped without Close is collected, and its memory, its descriptor and
// its slot with it.
type Handle struct {
	*Segment
	id         carry.ID
	object     uint64       // tells objects apart, for the race detector
	travelling atomic.Int32 // how many encoders have it
	lines      [Bells]line
	watching   watching
	shut       atomic.Bool
}

// handles numbers the handles of this process, for their IDs.
var handles atomic.Uint64

// Create makes an object and returns the first handle of it. init, which may be nil, sets
// up the body before anybody else can see it.
func Create(spec Spec, init func(*Segment)) (*Handle, error) {
	size := int64(bodyAt + spec.Body)
	fd, err := createFile(size + spec.Beyond)
	if err != nil {
		return nil, err
	}
	s, err := mapped(fd, int(size), spec.Bury)
	if err != nil {
		return nil, err
	}
	h := s.head
	h.magic, h.version, h.kind, h.sig, h.params = magic, version, spec.Kind, spec.Sig, spec.Params
	if init != nil {
		init(s)
	}
	return s.handle()
}

// Open returns a handle of the object behind fd, which it owns, error or not. layout
// completes spec, whose Kind and Sig must be those of the object, from the numbers that
// its maker left, and checks them: they come from another process.
func Open(fd int, kind uint32, sig uint64, layout func(params [Params]uint64) (Spec, error)) (*Handle, error) {
	spec, size, err := inspect(fd, kind, sig, layout)
	if err != nil {
		closeFile(fd)
		return nil, err
	}
	s, err := mapped(fd, size, spec.Bury)
	if err != nil {
		return nil, err
	}
	return s.handle()
}

// errForeign reports memory that is not what it should be.
var errForeign = errors.New("not the shared memory of such an object")

func inspect(fd int, kind uint32, sig uint64, layout func([Params]uint64) (Spec, error)) (Spec, int, error) {
	length, err := checkFile(fd)
	if err != nil {
		return Spec{}, 0, fmt.Errorf("%w: %w", errForeign, err)
	}
	h, err := readHead(fd)
	switch {
	case err != nil:
		return Spec{}, 0, fmt.Errorf("%w: %w", errForeign, err)
	case h.magic != magic || h.version != version:
		return Spec{}, 0, fmt.Errorf("%w: it begins with %#x, version %d", errForeign, h.magic, h.version)
	case h.kind != kind:
		return Spec{}, 0, fmt.Errorf("%w: it is of kind %d, not %d", errForeign, h.kind, kind)
	case h.sig != sig:
		return Spec{}, 0, fmt.Errorf("%w: it was made for another type", errForeign)
	}
	spec, err := layout(h.params)
	if err != nil {
		return Spec{}, 0, fmt.Errorf("%w: %w", errForeign, err)
	}
	if spec.Body < 0 || spec.Beyond < 0 || length < bodyAt || int64(spec.Body) > length-bodyAt || spec.Beyond != length-bodyAt-int64(spec.Body) {
		return Spec{}, 0, fmt.Errorf("%w: it has %d bytes", errForeign, length)
	}
	return spec, bodyAt + spec.Body, nil
}

// mapped maps size bytes of fd, which is closed on an error.
func mapped(fd, size int, bury func(*Segment, int)) (*Segment, error) {
	mem, err := mapFile(fd, size)
	if err != nil {
		closeFile(fd)
		return nil, err
	}
	return &Segment{FD: fd, mem: mem, Body: mem[bodyAt:size:size], head: headOf(mem), slots: slotsOf(mem), bury: bury}, nil
}

func (s *Segment) handle() (*Handle, error) {
	if err := s.take(); err != nil {
		s.end()
		return nil, err
	}
	h := &Handle{Segment: s, id: newID(), object: objectOf(s)}
	runtime.AddCleanup(h, (*Segment).end, s)
	return h, nil
}

// objectOf returns what tells objects apart, for the race detector alone.
func objectOf(s *Segment) uint64 {
	if !raceEnabled {
		return 0
	}
	return inode(s.FD)
}

func newID() (id carry.ID) {
	n := handles.Add(1)
	for i := range 8 {
		id[i], id[8+i] = byte(token>>(8*i)), byte(n>>(8*i))
	}
	return id
}

// Use keeps the memory mapped until Release, and reports false if h is closed. Nothing of
// the memory may be touched outside.
func (h *Handle) Use() bool {
	if raceEnabled {
		released(h.object)
	}
	return h.use()
}

// Release ends what Use began.
func (h *Handle) Release() {
	if raceEnabled {
		acquired(h.object)
	}
	h.release()
	runtime.KeepAlive(h) // or it could be collected while somebody waits
}

// Closing reports whether Close was called.
func (h *Handle) Closing() bool { return h.shut.Load() }

// Close lets go of what h holds and wakes who waits on it; the last of them gives the memory
// back. It may be called again.
func (h *Handle) Close() {
	if !h.shut.CompareAndSwap(false, true) {
		return
	}
	h.refs.Add(1 - closing)
	h.stirAll()
	forget(h.Segment)
	h.Release()
}

// stirAll has everybody who waits by h look again. Who comes to wait later sees what there
// is to see: most often there is nobody to wake.
func (h *Handle) stirAll() {
	for k := range Bell(Bells) {
		if h.lines[k].empty() {
			continue
		}
		h.stir(k)
		h.Nudge(k)
	}
}

// CarryID is the name of h for who sends it.
func (h *Handle) CarryID() carry.ID { return h.id }

// Export returns a descriptor for one receiver, and marks h as travelling until Exported.
//
// It is a new opening of the file: the lock of a slot is that of an opening, and would
// outlive this process if another one had the same.
func (h *Handle) Export() ([]int, error) {
	if !h.Use() {
		return nil, ErrClosed
	}
	defer h.Release()
	fd, err := reopen(h.FD)
	if err != nil {
		return nil, fmt.Errorf("ipc: a handle cannot be sent: %w", err)
	}
	h.travelling.Add(1)
	return []int{fd}, nil
}

// Exported takes back one mark of Export.
func (h *Handle) Exported() { h.travelling.Add(-1) }

// Travelling reports whether an encoder that takes descriptors along has h.
func (h *Handle) Travelling() bool { return h.travelling.Load() > 0 }

// A line is the goroutines of this process that wait at one bell.
type line struct {
	mu          sync.Mutex // guards what follows; Lock order: nothing is locked under it
	first, last *waiter
	roused      uint32 // the state of the bell of which all have been told
	rousedOnce  bool
	pulse       pulse
	parked      atomic.Bool // the leader sleeps at no bell, but waits for a Nudge
}
