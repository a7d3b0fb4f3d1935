package manager

import "context"

// A List is a slice that lives in a manager's server.
//
// A T is anything that can be a task's argument. The server has it encoded, so it is a copy:
// who wants to change an element changes his, and sets it. A T that is, or holds, a proxy of
// the same manager is live, and lives as long as it is in the List.
//
// Each method is one round trip, and is done as a whole. None has to wait, so that all are
// carried out under a ctx that has ended, too.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost], where they take an index one
// that names it and the length if it is out of range, and where they take or return values,
// what keeps them from being encoded or decoded. Indexes are from 0 on; there are no negative
// ones.
//
// A List is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.list (Python 3.14), where an index below 0 counts from the end, and
// iterating sees what changes meanwhile, where All has one copy of the whole.
type List[T any] struct{ object }

// NewList has the server of m make an empty List, and returns a proxy of it.
//
// Errors: a T that cannot travel: the error names the field, and what it is; [ipc.ErrClosed],
// [ErrLost].
func NewList[T any](ctx context.Context, m *Manager) (*List[T], error) {
	l := new(List[T])
	if err := travels[T](l.describe()); err != nil {
		return nil, err
	}
	if err := create(ctx, m, kindList, l, nil); err != nil {
		return nil, err
	}
	return l, nil
}

// Append appends vs, all of them one after another. With an error none was appended.
func (l *List[T]) Append(ctx context.Context, vs ...T) error {
	ds := make([]datum, len(vs))
	for i, v := range vs {
		var err error
		if ds[i], err = pack(v); err != nil {
			return failed("list append", err)
		}
	}
	return l.do(ctx, "list append", opListAppend, func(w *writer) {
		w.int(len(ds))
		for _, d := range ds {
			w.datum(d)
		}
	})
}

// Get returns element i.
func (l *List[T]) Get(ctx context.Context, i int) (T, error) {
	return askDatum[T](ctx, &l.object, "list get", opListGet, func(w *writer) { w.int(i) })
}

// Set makes v element i, which is there already.
func (l *List[T]) Set(ctx context.Context, i int, v T) error {
	return tellValue(ctx, &l.object, "list set", opListSet, v, func(w *writer) { w.int(i) })
}

// Insert makes v element i, and moves those from there on up by one. An i that is the length
// appends.
func (l *List[T]) Insert(ctx context.Context, i int, v T) error {
	return tellValue(ctx, &l.object, "list insert", opListInsert, v, func(w *writer) { w.int(i) })
}

// Pop takes element i out and returns it, and moves those after it down by one. One that cannot
// be decoded is an error, and gone.
func (l *List[T]) Pop(ctx context.Context, i int) (T, error) {
	return askDatum[T](ctx, &l.object, "list pop", opListPop, func(w *writer) { w.int(i) })
}

// Len returns the number of elements.
func (l *List[T]) Len(ctx context.Context) (int, error) {
	return l.askInt(ctx, "list len", opListLen)
}

// All returns a copy of the whole List as it is at one time, which is the caller's. It is one
// result, for which Config.MaxMessage is the limit.
func (l *List[T]) All(ctx context.Context) ([]T, error) {
	var all []T
	err := l.call(ctx, opListAll, nil, func(r *reader) error {
		n := r.int()
		all = make([]T, 0, min(max(n, 0), len(r.b)))
		for ; n > 0 && r.err == nil; n-- {
			d := r.datum()
			if r.err != nil {
				break
			}
			v, err := unpack[T](d)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		return r.end()
	})
	if err != nil {
		return nil, failed("list all", err)
	}
	return all, nil
}

func (*List[T]) describe() string { return "List[" + typeText[T]() + "]" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (l *List[T]) GobEncode() ([]byte, error) { return encode(l) }

// GobDecode is for the decoders of this module.
func (l *List[T]) GobDecode(b []byte) error { return l.decode(l, b) }
