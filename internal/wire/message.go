package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"reflect"
	"time"
)

// Marshal encodes v, a struct or a pointer to one, alone.
func Marshal(v any) ([]byte, error) {
	types, err := dynamicTypes(reflect.Indirect(reflect.ValueOf(v)))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = encodeOpen(&b, v, types)
	return b.Bytes(), err
}

// Unmarshal decodes what Marshal encoded. Bytes that Marshal did not write, whatever
// they are, are an error, or some value.
func Unmarshal(b []byte, v any) error {
	var types inspector
	if err := types.payload(b, true); err != nil {
		return err
	}
	if err := types.fits(reflect.TypeOf(v)); err != nil {
		return err
	}
	return gob.NewDecoder(&source{b}).Decode(v)
}

// A CallHead is what a call's items have in common.
type CallHead struct {
	Task      string
	Signature string        // "" if the two sides compared it in the handshake
	Timeout   time.Duration // for each item; 0: none
	Deadline  int64         // of the caller's context, as Monotonic has it; 0: none
	Discard   bool          // only the error is wanted
	Keep      bool          // handles in the argument are the worker's until it ends
}

const (
	hasDeadline = 1 << iota
	wantsDiscard
	keepsHandles
)

// ErrBadCall reports bytes that are no call.
var ErrBadCall = errors.New("wire: a call that cannot be read")

// Append adds the encoded h to b and returns it.
func (h *CallHead) Append(b []byte) []byte {
	var flags byte
	if h.Deadline != 0 {
		flags |= hasDeadline
	}
	if h.Discard {
		flags |= wantsDiscard
	}
	if h.Keep {
		flags |= keepsHandles
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, int64(h.Timeout))
	if h.Deadline != 0 {
		b = binary.AppendVarint(b, h.Deadline)
	}
	b = binary.AppendUvarint(b, uint64(len(h.Task)))
	b = append(b, h.Task...)
	return append(b, h.Signature...)
}

// ParseCallHead decodes what Append encoded.
func ParseCallHead(b []byte) (h CallHead, err error) {
	if len(b) == 0 {
		return h, ErrBadCall
	}
	flags := b[0]
	b = b[1:]
	h.Discard = flags&wantsDiscard != 0
	h.Keep = flags&keepsHandles != 0
	timeout, n := binary.Varint(b)
	if n <= 0 || timeout < 0 {
		return h, ErrBadCall
	}
	h.Timeout = time.Duration(timeout)
	b = b[n:]
	if flags&hasDeadline != 0 {
		if h.Deadline, n = binary.Varint(b); n <= 0 {
			return h, ErrBadCall
		}
		b = b[n:]
	}
	name, n := binary.Uvarint(b)
	if n <= 0 || name > uint64(len(b)-n) {
		return h, ErrBadCall
	}
	b = b[n:]
	h.Task, h.Signature = string(b[:name]), string(b[name:])
	return h, nil
}

// A RingCall is a call as its record in shared memory has it. The records of its
// arguments follow.
type RingCall struct {
	Seq   uint64
	Items uint32
	Head  []byte // as ParseCallHead reads it
}

const ringCallLen = 12

// RingCallLen returns how many bytes Put needs for a head of n bytes.
func RingCallLen(n int) int { return ringCallLen + n }

// Put encodes c into b, which is of the length that RingCallLen says.
func (c *RingCall) Put(b []byte) {
	binary.LittleEndian.PutUint64(b, c.Seq)
	binary.LittleEndian.PutUint32(b[8:], c.Items)
	copy(b[ringCallLen:], c.Head)
}

// ParseRingCall decodes what Put encoded. Head is a part of b.
func ParseRingCall(b []byte) (RingCall, bool) {
	if len(b) < ringCallLen {
		return RingCall{}, false
	}
	return RingCall{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), b[ringCallLen:]}, true
}

// A RingArg says which argument comes through the socket.
type RingArg struct {
	Seq  uint64
	Item uint32
}

// RingArgLen is how many bytes one takes.
const RingArgLen = 12

// Append adds the encoded a to b and returns it.
func (a RingArg) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(b, a.Seq), a.Item)
}

// ParseRingArg decodes what Append encoded.
func ParseRingArg(b []byte) (RingArg, bool) {
	if len(b) != RingArgLen {
		return RingArg{}, false
	}
	return RingArg{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])}, true
}

// An Interruption ends the context of a call.
type Interruption struct {
	Deadline bool   // its Err is context.DeadlineExceeded, otherwise context.Canceled
	Cause    []byte // as package executor encodes errors
}

// Append adds the encoded i to b and returns it.
func (i *Interruption) Append(b []byte) []byte {
	if i.Deadline {
		return append(append(b, 1), i.Cause...)
	}
	return append(append(b, 0), i.Cause...)
}

// ParseInterruption decodes what Append encoded.
func ParseInterruption(b []byte) (i Interruption, err error) {
	if len(b) == 0 || b[0] > 1 {
		return i, errors.New("wire: an interruption that cannot be read")
	}
	return Interruption{Deadline: b[0] == 1, Cause: b[1:]}, nil
}
