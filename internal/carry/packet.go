package carry

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Files are descriptors that came along with a frame. Whoever has them closes them, or
// makes a Load of them. Nil is none.
type Files struct {
	FDs  []int
	Lost bool // there were more, for which this process had no room
}

// Close closes the descriptors that are left.
func (f *Files) Close() {
	if f == nil {
		return
	}
	CloseAll(f.FDs)
	f.FDs = nil
}

// ErrLost reports a value whose descriptors did not come, all of them: the kernel drops
// those that are beyond the limit of the process that receives them (RLIMIT_NOFILE).
var ErrLost = errors.New("descriptors of handles were lost on the way: this process has too many files open")

// errList reports a list of handles that does not fit what came with it.
var errList = errors.New("a list of handles that cannot be read, or does not fit the descriptors that came along")

// Append adds the list of what is in l to b and returns it: the number of handles, and for
// each its ID and the number of its descriptors.
func (l *Load) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(l.Items)))
	for _, it := range l.Items {
		b = append(b, it.ID[:]...)
		b = binary.AppendUvarint(b, uint64(len(it.FDs)))
	}
	return b
}

// Unpack makes a Load of the list that b begins with and of the descriptors that came along,
// and returns it, and what is behind the list. The descriptors are the Load's then, and
// closed on an error. One that matches ErrLost leaves rest as it is to be.
func Unpack(b []byte, f *Files) (l *Load, rest []byte, err error) {
	defer f.Close() // what is not the Load's
	n, width := binary.Uvarint(b)
	const least = len(ID{}) + 1
	if width <= 0 || n == 0 || n > uint64((len(b)-width)/least) {
		return nil, nil, errList
	}
	b = b[width:]
	l = &Load{Items: make([]Item, n)}
	counts := make([]int, n)
	all := 0
	for i := range l.Items {
		if len(b) < least {
			return nil, nil, errList
		}
		copy(l.Items[i].ID[:], b)
		b = b[len(ID{}):]
		c, width := binary.Uvarint(b)
		if width <= 0 || c == 0 || c > MostFiles { // a handle without descriptors could not be told from one that did not come
			return nil, nil, errList
		}
		b = b[width:]
		counts[i] = int(c)
		all += int(c)
	}
	switch {
	case f == nil:
		return nil, nil, errList
	case f.Lost:
		return nil, b, ErrLost
	case all != len(f.FDs):
		return nil, nil, errList
	}
	for i, c := range counts {
		l.Items[i].FDs, f.FDs = f.FDs[:c:c], f.FDs[c:]
	}
	return l, b, nil
}

const (
	// perPart is how many descriptors go along with a part of a frame: SCM_MAX_FD of Linux.
	perPart = 253

	// parts is how many parts a frame's header can be cut into: it has 24 bytes.
	parts = 24

	// MostFiles is how many descriptors can go along with one frame.
	MostFiles = perPart * parts
)

// An UnsentError reports a frame of which nothing was sent, because of its descriptors.
// What is sent next is not affected.
type UnsentError struct{ Err error }

func (e *UnsentError) Error() string {
	return fmt.Sprintf("sending the descriptors of handles: %v", e.Err)
}
func (e *UnsentError) Unwrap() error { return e.Err }

func tooMany(n int) error {
	return &UnsentError{fmt.Errorf("%d descriptors, and %d are the most for one value", n, MostFiles)}
}
