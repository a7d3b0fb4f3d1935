package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"example.com/futures/internal/carry"
)

// A Kind says what a frame is.
type Kind uint8

// The kinds of frames. A worker greets with Hello, and its parent with Setup, neither of
// which waits for the other. Then each Call is followed by its Args, and answered with one Result, Error or Skipped
// for each of them, in their order.
const (
	KindHello     Kind = iota + 1 // worker: who it is; Seq is Magic and Item is Version, so that any version can read them
	KindSetup                     // parent: what the worker is to be; Seq and Item as above
	KindCall                      // parent: a call; Item is the number of Args that follow
	KindArg                       // parent: the argument of one item
	KindInterrupt                 // parent: end the context of a call
	KindBye                       // parent: end; sent to an idle worker
	KindResult                    // worker: the value of one item
	KindError                     // worker: the error of one item
	KindSkipped                   // worker: an item that never began, since its call was interrupted, or taken back
	KindStarted                   // worker: the call was taken up; for parents that want to know
	KindBell                      // worker: there are answers in shared memory
	KindArgs                      // parent, in shared memory: arguments of several items
)

// The kinds of frames between a client and the server of a manager, beside Hello, Setup,
// Interrupt, Error and Skipped.
const (
	KindRequest = KindArgs + 1 + iota // client: an operation; Item is which
	KindAnswer                        // server: what came of it
	KindRelease                       // client: it has no proxy of an object any more
	KindAdopt                         // client: a descriptor comes along, see Reader.Takes
	KindPing                          // client: an answer is wanted
	KindPong                          // server: it
)

// Flags of frames that carry a value.
const (
	FlagAlone  uint8 = 1 << iota // the value is encoded on its own, outside of the stream
	FlagStart                    // the first value of a stream: forget the one before
	FlagEnd                      // the last value of a stream: let go of its buffers
	FlagAbsent                   // of an Arg: there is none, and its answer is Skipped
	FlagPlain                    // the value is plain: not gob's, see Plain
	FlagParts                    // some of the value is beside what is gob's, see Encoder.part
	FlagCarry                    // descriptors go along, and the list of what they belong to is before the value
)

// Flags of records in shared memory, whose payload is not the value but says where it is.
const (
	FlagLarge  uint8 = 1 << 6 // in the arena: a ring.Ref
	FlagSocket uint8 = 1 << 7 // in a frame on the socket: of an argument, a RingArg; of an answer, nothing

	// FlagCarried is both of a value with FlagCarry, for which alone FlagLarge says nothing:
	// descriptors go over the socket, and the value with them.
	FlagCarried = FlagSocket | FlagCarry
)

// RecordFlags returns the flags of the value that a record with these flags stands for.
func RecordFlags(flags uint8) uint8 {
	if flags&FlagSocket == 0 {
		return flags &^ FlagLarge
	}
	return flags &^ FlagSocket
}

// MostInline is the largest value that is put into a record. A larger one goes to the arena.
const MostInline = 8 << 10

const (
	// Magic begins every conversation.
	Magic uint64 = 0x66757475_72657301

	// Version is that of the protocol. Both sides must have the same.
	Version uint32 = 5

	// ErrorAllowance is what a frame may be beyond the largest value: room for a value's
	// types, and for an error where values are small.
	ErrorAllowance = 8 << 20

	headerLen = 24
	bufferLen = 64 << 10

	// A payload up to smallLen is copied behind its header, so that both go out in
	// one write.
	smallLen = 32 << 10

	// firstRead is how much is allocated for a payload on its header's word alone: a value of
	// 1 MiB, with what is beside it.
	firstRead = 1<<20 + 4<<10
)

// A Header precedes a payload of Len bytes: three words of 64 bits, the lowest byte
// first. The third holds Item, Kind, Flags and Files.
type Header struct {
	Len   uint64
	Seq   uint64 // the call
	Item  uint32 // the item of the call
	Kind  Kind
	Flags uint8
	Files uint16 // how many descriptors come along with the header, see carry.Socket; set by AddLoad
}

// A Frame is a header and its payload.
type Frame struct {
	Header
	Payload []byte
	Along   *carry.Files // the descriptors, which are the receiver's; nil: none
}

// A LimitError reports a frame that claims to be larger than allowed.
type LimitError struct {
	Len   uint64
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("wire: a frame of %d bytes is over the limit of %d", e.Len, e.Limit)
}

// Append adds a frame to b and returns it.
func Append(b []byte, h Header, payload []byte) []byte {
	return append(AppendHeader(b, h, len(payload)), payload...)
}

// AppendHeader adds to b what comes before a payload of n bytes, and returns it.
func AppendHeader(b []byte, h Header, n int) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	b = binary.LittleEndian.AppendUint64(b, h.Seq)
	b = binary.LittleEndian.AppendUint32(b, h.Item)
	b = append(b, byte(h.Kind), h.Flags)
	return binary.LittleEndian.AppendUint16(b, h.Files)
}

// A Writer gathers frames and writes them together. It is not safe for concurrent
// use. After an error it stays with it.
type Writer struct {
	w   io.Writer
	buf []byte
	err error
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Add adds a frame. What has gathered is written when it is large.
func (w *Writer) Add(h Header, payload []byte) error {
	if len(payload) <= smallLen {
		w.buf = Append(w.buf, h, payload)
		if len(w.buf) >= bufferLen {
			return w.Flush()
		}
		return w.err
	}
	w.buf = AppendHeader(w.buf, h, len(payload))
	if err := w.Flush(); err != nil {
		return err
	}
	_, w.err = w.w.Write(payload)
	return w.err
}

// AddLoad writes a frame, with what has gathered before it and descriptors along with it, and
// closes them. An *carry.UnsentError says that there is no such frame, and else nothing.
func (w *Writer) AddLoad(h Header, payload []byte, l *carry.Load) error {
	defer l.Close()
	if err := w.Flush(); err != nil {
		return err
	}
	fds := l.Files()
	s, ok := w.w.(interface {
		Send(b []byte, fds []int) error
	})
	if !ok {
		return &carry.UnsentError{Err: errNoSocket}
	}
	h.Files = uint16(min(len(fds), carry.MostFiles)) // of more, Send says that it is too many
	b := AppendHeader(nil, h, len(payload))
	if len(payload) <= smallLen {
		b, payload = append(b, payload...), nil
	}
	err := s.Send(b, fds)
	if errors.As(err, new(*carry.UnsentError)) {
		return err
	}
	if w.err = err; err == nil && len(payload) > 0 {
		_, w.err = w.w.Write(payload)
	}
	return w.err
}

var errNoSocket = errors.New("there is no socket that could take them")

// Flush writes what has gathered.
func (w *Writer) Flush() error {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return w.err
}

// A Reader reads frames. It is not safe for concurrent use.
type Reader struct {
	r     *bufio.Reader
	files *carry.Socket // where they come from; nil: there are none
	limit int64
	reuse bool
	small []byte // the payload of the last small frame, if reuse is set
	takes Kind   // of frames that descriptors may come along with, too
}

// NewReader returns a Reader of frames of at most limit bytes. With reuse, a payload
// is valid until the next frame is read.
func NewReader(r io.Reader, limit int64, reuse bool) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, bufferLen), limit: limit, reuse: reuse}
}

// NewSocketReader returns a Reader of what comes through s, which r reads from.
func NewSocketReader(r io.Reader, s *carry.Socket, limit int64, reuse bool) *Reader {
	n := NewReader(r, limit, reuse)
	n.files = s
	return n
}

// SetLimit changes the largest payload from now on.
func (r *Reader) SetLimit(limit int64) { r.limit = limit }

// Takes says that descriptors may come along with frames of kind k.
func (r *Reader) Takes(k Kind) { r.takes = k }

// Ready reports whether Next has no need to wait: all of a frame has been read already.
func (r *Reader) Ready() bool {
	n := r.r.Buffered()
	if n < headerLen {
		return false
	}
	head, _ := r.r.Peek(8)
	return binary.LittleEndian.Uint64(head) <= uint64(n-headerLen)
}

// Buffered reports whether something of the next frame was read already.
func (r *Reader) Buffered() bool { return r.r.Buffered() > 0 }

// Next reads a frame. It answers io.EOF where the stream ends between two frames,
// io.ErrUnexpectedEOF where it ends inside of one, and a *LimitError, before it
// allocates anything, for a frame that is too large. Descriptors that come with another
// frame than that of a value, or with none, are an error.
func (r *Reader) Next() (Frame, error) {
	if r.files != nil && r.files.Waiting() > 0 && r.r.Buffered() == 0 {
		return Frame{}, errStrayFiles
	}
	head, err := r.r.Peek(headerLen)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	f := Frame{Header: Header{
		Len:   binary.LittleEndian.Uint64(head),
		Seq:   binary.LittleEndian.Uint64(head[8:]),
		Item:  binary.LittleEndian.Uint32(head[16:]),
		Kind:  Kind(head[20]),
		Flags: head[21],
		Files: binary.LittleEndian.Uint16(head[22:]),
	}}
	if f.Len > uint64(max(r.limit, 0)) {
		return Frame{Header: f.Header}, &LimitError{Len: f.Len, Limit: r.limit}
	}
	if _, err := r.r.Discard(headerLen); err != nil {
		return Frame{}, err
	}
	if f.Files > 0 {
		if f.Along, err = r.along(f.Header); err != nil {
			return Frame{}, err
		}
	}
	if f.Payload, err = r.payload(int(f.Len)); err != nil {
		f.Along.Close()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}

var errStrayFiles = errors.New("wire: descriptors that belong to no value")

// along returns the descriptors that came with a header.
func (r *Reader) along(h Header) (*carry.Files, error) {
	if r.files == nil || h.Flags&FlagCarry == 0 || h.Kind != KindArg && h.Kind != KindResult && h.Kind != r.takes {
		return nil, errStrayFiles
	}
	f, err := r.files.Take(int(h.Files))
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	return f, nil
}

// payload reads n bytes. Of a large n it allocates no more than twice what has
// arrived: a header is only a claim.
func (r *Reader) payload(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if n <= smallLen {
		b := r.small
		if !r.reuse || cap(b) < n {
			b = make([]byte, n)
		}
		if r.reuse {
			r.small = b[:cap(b)]
		}
		b = b[:n]
		_, err := io.ReadFull(r.r, b)
		return b, err
	}
	b := make([]byte, min(n, firstRead))
	for have := 0; ; {
		if _, err := io.ReadFull(r.r, b[have:]); err != nil {
			return nil, err
		}
		if have = len(b); have == n {
			return b, nil
		}
		more := make([]byte, min(n, 2*have))
		copy(more, b)
		b = more
	}
}
