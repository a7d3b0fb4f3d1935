package manager

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// The operations of a Dict. A key is bytes.
const (
	opDictGet    uint8 = iota + 1 // key → bool [datum]
	opDictSet                     // n, n times key and datum
	opDictDelete                  // key
	opDictPop                     // key → bool [datum]
	opDictLoad                    // key → version [datum]; version 0: there is none
	opDictSwap                    // key, version, datum → bool: whether the version was still that
	opDictLen                     // → int
	opDictAll                     // → n, n times key and datum
)

// A versioned is a datum that is told apart from all others that its thing has stored.
type versioned struct {
	datum
	version uint64 // from 1 on
}

// A dictThing takes a key for the key that has the same bytes.
type dictThing struct {
	keeper keeper

	mu      sync.Mutex // guards what follows
	all     map[string]versioned
	version uint64 // the last one that was given
}

func newDictThing(k keeper) *dictThing {
	return &dictThing{keeper: k, all: make(map[string]versioned)}
}

func (t *dictThing) do(_ context.Context, by *client, op uint8, in *reader, out *writer) error {
	switch op {
	case opDictSet:
		return t.set(in)
	case opDictLen, opDictAll:
		if err := in.end(); err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		out.int(len(t.all))
		if op == opDictAll {
			for key, v := range t.all {
				out.text(key)
				out.datum(v.datum)
			}
		}
		return nil
	}
	key := in.text()
	var version uint64
	var d datum
	if op == opDictSwap {
		version, d = in.uint(), in.datum()
	}
	if err := in.end(); err != nil {
		return err
	}
	var old datum
	defer func() { let(t.keeper, old) }()
	t.mu.Lock()
	defer t.mu.Unlock()
	had, ok := t.all[key]
	switch op {
	case opDictGet:
		if out.bool(ok); ok {
			out.datum(had.datum)
		}
	case opDictDelete:
		old = had.datum
		delete(t.all, key)
	case opDictPop:
		if err := by.takes(had.datum); err != nil {
			return err
		}
		if out.bool(ok); ok {
			out.datum(had.datum)
			old = had.datum
		}
		delete(t.all, key)
	case opDictLoad:
		if out.uint(had.version); ok {
			out.datum(had.datum)
		}
	case opDictSwap:
		if out.bool(had.version == version); had.version == version {
			old = had.datum
			t.put(key, d)
		}
	default:
		return errBadRequest
	}
	return nil
}

// put stores d. mu is held.
func (t *dictThing) put(key string, d datum) {
	t.version++
	t.all[key] = versioned{stored(t.keeper, d), t.version}
}

// set stores several, or none if they cannot be read.
func (t *dictThing) set(in *reader) error {
	type pair struct {
		key string
		datum
	}
	var pairs []pair
	for n := in.int(); n > 0 && in.err == nil; n-- {
		pairs = append(pairs, pair{in.text(), in.datum()})
	}
	if err := in.end(); err != nil {
		return err
	}
	var old []datum
	t.mu.Lock()
	for _, p := range pairs {
		if len(pairs) > 1 {
			p.bytes = bytes.Clone(p.bytes) // so that one does not keep the request of all
		}
		old = append(old, t.all[p.key].datum)
		t.put(p.key, p.datum)
	}
	t.mu.Unlock()
	let(t.keeper, old...)
	return nil
}

func (t *dictThing) gone(*client) {}

func (t *dictThing) drop() []datum {
	t.mu.Lock()
	defer t.mu.Unlock()
	var held []datum
	for _, v := range t.all {
		held = append(held, v.datum)
	}
	t.all = make(map[string]versioned)
	return held
}

// The operations of a List.
const (
	opListAppend uint8 = iota + 1 // n, n datums
	opListGet                     // int → datum
	opListSet                     // int, datum
	opListInsert                  // int, datum
	opListPop                     // int → datum
	opListLen                     // → int
	opListAll                     // → n, n datums
)

type listThing struct {
	keeper keeper

	mu  sync.Mutex // guards what follows
	all []datum
}

func newListThing(k keeper) *listThing { return &listThing{keeper: k} }

func (t *listThing) do(_ context.Context, by *client, op uint8, in *reader, out *writer) error {
	i := 0
	var ds []datum
	switch op {
	case opListAppend:
		for n := in.int(); n > 0 && in.err == nil; n-- {
			ds = append(ds, in.datum())
		}
	case opListSet, opListInsert:
		i = in.int()
		ds = append(ds, in.datum())
	case opListGet, opListPop:
		i = in.int()
	}
	if err := in.end(); err != nil {
		return err
	}
	var old datum
	defer func() { let(t.keeper, old) }()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch op {
	case opListGet, opListSet, opListPop:
		if err := inRange(i, len(t.all)); err != nil {
			return err
		}
	case opListInsert:
		if i != len(t.all) {
			if err := inRange(i, len(t.all)); err != nil {
				return err
			}
		}
	}
	switch op {
	case opListAppend:
		for _, d := range ds {
			if len(ds) > 1 {
				d.bytes = bytes.Clone(d.bytes) // so that one does not keep the request of all
			}
			t.all = append(t.all, stored(t.keeper, d))
		}
	case opListGet:
		out.datum(t.all[i])
	case opListSet:
		old, t.all[i] = t.all[i], stored(t.keeper, ds[0])
	case opListInsert:
		t.all = slices.Insert(t.all, i, stored(t.keeper, ds[0]))
	case opListPop:
		if err := by.takes(t.all[i]); err != nil {
			return err
		}
		old = t.all[i]
		out.datum(old)
		t.all = slices.Delete(t.all, i, i+1)
	case opListLen:
		out.int(len(t.all))
	case opListAll:
		out.int(len(t.all))
		for _, d := range t.all {
			out.datum(d)
		}
	default:
		return errBadRequest
	}
	return nil
}

func (t *listThing) gone(*client) {}

func (t *listThing) drop() []datum {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.all
	t.all = nil
	return held
}

// The operations of a Namespace.
const (
	opNamespaceSet    uint8 = iota + 1 // name, type, datum
	opNamespaceGet                     // name → bool [type, datum]
	opNamespaceDelete                  // name
)

// A namespaceThing has values of different types, each by a name and with what its type is.
type namespaceThing struct {
	keeper keeper

	mu  sync.Mutex // guards what follows
	all map[string]typed
}

type typed struct {
	typ string
	datum
}

func newNamespaceThing(k keeper) *namespaceThing {
	return &namespaceThing{keeper: k, all: make(map[string]typed)}
}

func (t *namespaceThing) do(_ context.Context, _ *client, op uint8, in *reader, out *writer) error {
	name := in.text()
	var v typed
	if op == opNamespaceSet {
		v = typed{in.text(), in.datum()}
	}
	if err := in.end(); err != nil {
		return err
	}
	var old datum
	defer func() { let(t.keeper, old) }()
	t.mu.Lock()
	defer t.mu.Unlock()
	had, ok := t.all[name]
	switch op {
	case opNamespaceSet:
		old = had.datum
		t.all[name] = typed{v.typ, stored(t.keeper, v.datum)}
	case opNamespaceGet:
		if out.bool(ok); ok {
			out.text(had.typ)
			out.datum(had.datum)
		}
	case opNamespaceDelete:
		old = had.datum
		delete(t.all, name)
	default:
		return errBadRequest
	}
	return nil
}

func (t *namespaceThing) gone(*client) {}

func (t *namespaceThing) drop() []datum {
	t.mu.Lock()
	defer t.mu.Unlock()
	var held []datum
	for _, v := range t.all {
		held = append(held, v.datum)
	}
	t.all = make(map[string]typed)
	return held
}

// The operations of a Value.
const (
	opValueLoad  uint8 = iota + 1 // → version, datum
	opValueStore                  // datum
	opValueSwap                   // version, datum → bool: whether the version was still that
)

type valueThing struct {
	keeper keeper

	mu sync.Mutex // guards what follows
	v  versioned
}

func newValueThing(k keeper, d datum) *valueThing {
	return &valueThing{keeper: k, v: versioned{stored(k, d), 1}}
}

func (t *valueThing) do(_ context.Context, _ *client, op uint8, in *reader, out *writer) error {
	var version uint64
	var d datum
	if op == opValueSwap {
		version = in.uint()
	}
	if op == opValueStore || op == opValueSwap {
		d = in.datum()
	}
	if err := in.end(); err != nil {
		return err
	}
	var old datum
	defer func() { let(t.keeper, old) }()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch op {
	case opValueLoad:
		out.uint(t.v.version)
		out.datum(t.v.datum)
		return nil
	case opValueSwap:
		out.bool(t.v.version == version)
		if t.v.version != version {
			return nil
		}
	case opValueStore:
	default:
		return errBadRequest
	}
	old, t.v = t.v.datum, versioned{stored(t.keeper, d), t.v.version + 1}
	return nil
}

func (t *valueThing) gone(*client) {}

func (t *valueThing) drop() []datum {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.v.datum
	t.v.datum = datum{}
	return []datum{held}
}

// The operations of an Array.
const (
	opArrayGet uint8 = iota + 1 // int → bool [datum]; false: it is zero
	opArraySet                  // int, datum
	opArrayLen                  // → int
	opArrayAll                  // → int, n, n times int and datum: those that are not zero
)

// An arrayThing has n elements. Only those that were ever set take room.
type arrayThing struct {
	keeper keeper
	n      int

	mu  sync.Mutex // guards what follows
	set map[int]datum
}

func newArrayThing(k keeper, n int) (*arrayThing, error) {
	if n < 0 {
		return nil, fmt.Errorf("it cannot have %d elements", n)
	}
	return &arrayThing{keeper: k, n: n, set: make(map[int]datum)}, nil
}

func (t *arrayThing) do(_ context.Context, _ *client, op uint8, in *reader, out *writer) error {
	i := 0
	var d datum
	if op == opArrayGet || op == opArraySet {
		i = in.int()
	}
	if op == opArraySet {
		d = in.datum()
	}
	if err := in.end(); err != nil {
		return err
	}
	if op == opArrayGet || op == opArraySet {
		if err := inRange(i, t.n); err != nil {
			return err
		}
	}
	var old datum
	defer func() { let(t.keeper, old) }()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch op {
	case opArrayGet:
		d, ok := t.set[i]
		if out.bool(ok); ok {
			out.datum(d)
		}
	case opArraySet:
		old = t.set[i]
		t.set[i] = stored(t.keeper, d)
	case opArrayLen:
		out.int(t.n)
	case opArrayAll:
		out.int(t.n)
		out.int(len(t.set))
		for i, d := range t.set {
			out.int(i)
			out.datum(d)
		}
	default:
		return errBadRequest
	}
	return nil
}

func (t *arrayThing) gone(*client) {}

func (t *arrayThing) drop() []datum {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := slices.Collect(maps.Values(t.set))
	t.set = make(map[int]datum)
	return held
}
