package manager

import (
	"context"
	"fmt"
)

// A Dict is a map that lives in a manager's server.
//
// A K is anything that == compares and that means the same everywhere: numbers, bools, texts,
// arrays and structs of them, unexported fields too. Two keys that are == are one key, in all
// processes. A V is anything that can be a task's argument. The server has it encoded, so it is
// a copy: who wants to change it changes his, and sets it, or calls [Dict.Update]. A V that is,
// or holds, a proxy of the same manager is live, and lives as long as it is in the Dict.
//
// Each method is one round trip, and is done as a whole: nobody sees half of a SetAll. None has
// to wait, so that all are carried out under a ctx that has ended, too.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost], and where they take or return
// a key or a value, what keeps it from being encoded or decoded; a NaN in a key, which would
// never be found again.
//
// A Dict is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.dict (Python 3.14), whose values are pickled likewise. There a mutable
// value that was got, changed and not set has changed nothing either; iterating goes through
// the server item by item, where All has one copy of the whole.
type Dict[K comparable, V any] struct{ object }

// NewDict has the server of m make an empty Dict, and returns a proxy of it.
//
// Errors: a K or V that cannot travel: the error names the field, and what it is;
// [ipc.ErrClosed], [ErrLost].
func NewDict[K comparable, V any](ctx context.Context, m *Manager) (*Dict[K, V], error) {
	d := new(Dict[K, V])
	if _, err := keysOf[K](); err != nil {
		return nil, fmt.Errorf("manager: new %s: %w", d.describe(), err)
	}
	if err := travels[V](d.describe()); err != nil {
		return nil, err
	}
	if err := create(ctx, m, kindDict, d, nil); err != nil {
		return nil, err
	}
	return d, nil
}

// Get returns the value of k, and whether there is one.
func (d *Dict[K, V]) Get(ctx context.Context, k K) (v V, ok bool, err error) {
	key, err := keyFor(k)
	if err != nil {
		return v, false, failed("dict get", err)
	}
	return askMaybe[V](ctx, &d.object, "dict get", opDictGet, func(w *writer) { w.bytes(key) })
}

// Set makes v the value of k.
func (d *Dict[K, V]) Set(ctx context.Context, k K, v V) error {
	key, err := keyFor(k)
	if err != nil {
		return failed("dict set", err)
	}
	return tellValue(ctx, &d.object, "dict set", opDictSet, v, func(w *writer) {
		w.int(1)
		w.bytes(key)
	})
}

// SetAll sets the values of all keys of all, at once. Other keys stay as they are. With an
// error none was set.
func (d *Dict[K, V]) SetAll(ctx context.Context, all map[K]V) error {
	type pair struct {
		key []byte
		datum
	}
	pairs := make([]pair, 0, len(all))
	for k, v := range all {
		key, err := keyFor(k)
		if err != nil {
			return failed("dict set all", err)
		}
		packed, err := pack(v)
		if err != nil {
			return failed("dict set all", err)
		}
		pairs = append(pairs, pair{key, packed})
	}
	return d.do(ctx, "dict set all", opDictSet, func(w *writer) {
		w.int(len(pairs))
		for _, p := range pairs {
			w.bytes(p.key)
			w.datum(p.datum)
		}
	})
}

// Delete deletes k and its value. It is no error if there is none.
func (d *Dict[K, V]) Delete(ctx context.Context, k K) error {
	key, err := keyFor(k)
	if err != nil {
		return failed("dict delete", err)
	}
	return d.do(ctx, "dict delete", opDictDelete, func(w *writer) { w.bytes(key) })
}

// Pop deletes k, and returns the value that it had, and whether it had one. Of several that pop
// a key at the same time one gets it. A value that cannot be decoded is an error, and gone.
func (d *Dict[K, V]) Pop(ctx context.Context, k K) (v V, ok bool, err error) {
	key, err := keyFor(k)
	if err != nil {
		return v, false, failed("dict pop", err)
	}
	return askMaybe[V](ctx, &d.object, "dict pop", opDictPop, func(w *writer) { w.bytes(key) })
}

// Update has fn change a copy of the value of k, here, and sets that when fn returns. If there
// is no value, fn gets the zero V. If somebody else has set or deleted k in between, fn runs
// again, on what is there then, so that nothing is lost: fn should change nothing but what it is
// given. It may use the Dict, but for k.
//
// Errors: as of all methods, and one that matches ctx.Err(): once ctx has ended fn runs no second
// time. With an error nothing has changed.
//
// If fn panics, nothing has changed, and the panic goes on. A nil fn panics.
func (d *Dict[K, V]) Update(ctx context.Context, k K, fn func(*V)) error {
	if fn == nil {
		panic("manager: Dict.Update without a function")
	}
	key, err := keyFor(k)
	if err != nil {
		return failed("dict update", err)
	}
	return failed("dict update", update(ctx, fn, func() (v V, version uint64, err error) {
		err = d.call(ctx, opDictLoad, func(w *writer) { w.bytes(key) }, func(r *reader) (err error) {
			var is datum
			if version = r.uint(); version != 0 {
				is = r.datum()
			}
			if err := r.end(); err != nil || version == 0 {
				return err
			}
			v, err = unpack[V](is)
			return err
		})
		return v, version, err
	}, func(version uint64, is datum) (bool, error) {
		return d.askBool(ctx, "dict update", opDictSwap, func(w *writer) {
			w.bytes(key)
			w.uint(version)
			w.datum(is)
		})
	}))
}

// Len returns the number of keys.
func (d *Dict[K, V]) Len(ctx context.Context) (int, error) {
	return d.askInt(ctx, "dict len", opDictLen)
}

// All returns a copy of the whole Dict as it is at one time, which is the caller's. It is one
// result, for which Config.MaxMessage is the limit.
func (d *Dict[K, V]) All(ctx context.Context) (map[K]V, error) {
	keys, err := keysOf[K]()
	if err != nil {
		return nil, failed("dict all", err)
	}
	var all map[K]V
	err = d.call(ctx, opDictAll, nil, func(r *reader) error {
		n := r.int()
		all = make(map[K]V, min(max(n, 0), len(r.b)))
		for ; n > 0 && r.err == nil; n-- {
			key, is := r.bytes(), r.datum()
			if r.err != nil {
				break
			}
			k, err := keyOf[K](keys, key)
			if err != nil {
				return err
			}
			if all[k], err = unpack[V](is); err != nil {
				return err
			}
		}
		return r.end()
	})
	if err != nil {
		return nil, failed("dict all", err)
	}
	return all, nil
}

// keyFor returns the bytes of k.
func keyFor[K comparable](k K) ([]byte, error) {
	c, err := keysOf[K]()
	if err != nil {
		return nil, err
	}
	return keyBytes(c, &k)
}

func (*Dict[K, V]) describe() string { return "Dict[" + typeText[K]() + "," + typeText[V]() + "]" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (d *Dict[K, V]) GobEncode() ([]byte, error) { return encode(d) }

// GobDecode is for the decoders of this module.
func (d *Dict[K, V]) GobDecode(b []byte) error { return d.decode(d, b) }
