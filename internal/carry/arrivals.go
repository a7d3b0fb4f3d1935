package carry

import (
	"slices"
	"sync"
)

// arrivals holds the descriptors of the values that are being decoded. Two of them
// may hold the same handle: then either's descriptors serve both.
var arrivals struct {
	mu   sync.Mutex // guards here
	here map[ID][][]int
}

// Encoded takes back the marks that [Collect] made, once the value is encoded, or
// could not be.
func (l *Load) Encoded() {
	if l == nil {
		return
	}
	for _, h := range l.marks {
		h.Exported()
	}
	l.marks = nil
}

// Arrive makes the descriptors of l claimable, until Settle.
func (l *Load) Arrive() {
	if l == nil {
		return
	}
	arrivals.mu.Lock()
	defer arrivals.mu.Unlock()
	if arrivals.here == nil {
		arrivals.here = make(map[ID][][]int)
	}
	for _, it := range l.Items {
		if len(it.FDs) > 0 {
			arrivals.here[it.ID] = append(arrivals.here[it.ID], it.FDs)
		}
	}
}

// Settle ends what Arrive began, and closes the descriptors of l, which then is empty.
func (l *Load) Settle() {
	if l == nil {
		return
	}
	arrivals.mu.Lock()
	for _, it := range l.Items {
		waiting := slices.DeleteFunc(arrivals.here[it.ID], func(fds []int) bool {
			return len(it.FDs) > 0 && &fds[0] == &it.FDs[0]
		})
		if len(waiting) == 0 {
			delete(arrivals.here, it.ID)
		} else {
			arrivals.here[it.ID] = waiting
		}
	}
	arrivals.mu.Unlock()
	l.Close()
}

// Claim returns duplicates of the descriptors that arrived under id; the caller owns
// them. It answers ok false if none have arrived.
func Claim(id ID) (fds []int, ok bool, err error) {
	arrivals.mu.Lock()
	defer arrivals.mu.Unlock()
	waiting := arrivals.here[id]
	if len(waiting) == 0 {
		return nil, false, nil
	}
	fds, err = duplicate(waiting[0])
	return fds, err == nil, err
}

// Close closes the descriptors of l, which then is empty.
func (l *Load) Close() {
	if l == nil {
		return
	}
	for _, it := range l.Items {
		CloseAll(it.FDs)
	}
	l.Items = nil
}

// Files returns all descriptors of l in order; l still owns them.
func (l *Load) Files() []int {
	if l == nil {
		return nil
	}
	var all []int
	for _, it := range l.Items {
		all = append(all, it.FDs...)
	}
	return all
}
