package future

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"sync"

	"example.com/futures/internal/promise"
)

// A Waitable is what Wait waits for: a *Future of any type, or anything that
// behaves like one.
type Waitable interface {
	Done() <-chan struct{}
	State() State
	Cancel() bool
	Exception(context.Context) error
}

// Until says what Wait waits for.
type Until int

const (
	FirstCompleted Until = iota // one future is done
	FirstException              // one future has failed, or every one is done; a cancellation is no failure
	AllCompleted                // every future is done
)

// String returns the name of the constant.
func (u Until) String() string {
	switch u {
	case AllCompleted:
		return "AllCompleted"
	case FirstCompleted:
		return "FirstCompleted"
	case FirstException:
		return "FirstException"
	}
	return fmt.Sprintf("Until(%d)", int(u))
}

// joiner is a *Future of any type: a group can listen to it.
type joiner interface {
	core() *promise.Core
	same(f any) bool
}

// coreOf returns the core of f, or nil if f is a future of another package. One that
// embeds a *Future has its methods too, and perhaps others in the place of Done and
// State: it is a future of its own.
func coreOf(f any) *promise.Core {
	if j, ok := f.(joiner); ok && j.same(f) {
		return j.core()
	}
	return nil
}

// isDone reports whether f is done, now.
func isDone(f Waitable) bool {
	s := f.State()
	return s == Cancelled || s == Finished
}

// Wait waits until as many of fs are done as until asks for, and returns those that
// are done and those that are not, each in the order given. A future given twice
// counts once. Futures of several types are waited for as Wait[Waitable].
//
// Under the context of a task of this process, the task's place in its pool is lent
// to other calls while Wait waits. Wait leaves nothing behind on futures that it
// did not see finish.
//
// Errors: if ctx ends first, one that matches [ErrNotDone], ctx.Err() and
// context.Cause(ctx); done and pending are then what they are at that moment. What
// the futures failed with is theirs to tell. Wait panics if until is unknown.
//
// Reference: concurrent.futures.wait, which reports a timeout only by its sets.
func Wait[F Waitable](ctx context.Context, until Until, fs ...F) (done, pending []F, err error) {
	if until < FirstCompleted || until > AllCompleted {
		panic(fmt.Sprintf("future: Wait with unknown %v", until))
	}
	fs = distinct(fs)
	m := newMembers(fs)
	defer m.close()

	enough := func(i int) bool {
		return until == FirstCompleted || until == FirstException && failed(fs[i])
	}
	stop, left := false, len(fs)
	for i := range fs {
		if m.done[i] {
			left--
			stop = stop || enough(i)
		}
	}
	for !stop && left > 0 {
		i, ok := m.group.Next(ctx)
		if !ok {
			break
		}
		m.done[i] = true
		left--
		stop = enough(i)
	}
	// A last look at each tells what is done now, even where the group is told of it
	// a moment later: somebody else may have seen it already.
	for i, f := range fs {
		if !m.done[i] && isDone(f) {
			m.done[i] = true
			left--
			stop = stop || enough(i)
		}
		if m.done[i] {
			done = append(done, f)
		} else {
			pending = append(pending, f)
		}
	}
	if !stop && left > 0 {
		err = notDone(ctx, fmt.Sprintf("%d of %d futures were not done", left, len(fs)))
	}
	return done, pending, err
}

// failed reports whether f, which is done, has finished with an error.
func failed(f Waitable) bool {
	return f.State() == Finished && f.Exception(context.Background()) != nil
}

// distinct returns fs without repetitions.
func distinct[F Waitable](fs []F) []F {
	seen := make(map[any]bool, len(fs))
	out := make([]F, 0, len(fs))
	for _, f := range fs {
		if v := reflect.ValueOf(f); v.Kind() == reflect.Pointer || v.Comparable() { // Comparable allocates
			if seen[f] {
				continue
			}
			seen[f] = true
		}
		out = append(out, f)
	}
	return out
}

// members ties futures to a group, and loose again.
type members struct {
	group *promise.Group
	done  []bool // was done when newMembers looked
	nodes []promise.Node
	cores []*promise.Core // nil for a future of another package
	stop  chan struct{}   // closed to end the goroutines below
	alien sync.WaitGroup  // of goroutines that wait for futures of other packages
}

func newMembers[F Waitable](fs []F) *members {
	m := &members{
		group: promise.NewGroup(),
		done:  make([]bool, len(fs)),
		nodes: make([]promise.Node, len(fs)),
		cores: make([]*promise.Core, len(fs)),
	}
	for i, f := range fs {
		if c := coreOf(f); c != nil {
			m.cores[i] = c
			m.done[i] = !m.group.Add(c, &m.nodes[i], i)
			continue
		}
		if isDone(f) {
			m.done[i] = true
			continue
		}
		if m.stop == nil {
			m.stop = make(chan struct{})
		}
		ch, stop := f.Done(), m.stop
		m.alien.Go(func() { // ends with the future, or by close
			select {
			case <-ch:
				m.group.Wake(i)
			case <-stop:
			}
		})
	}
	return m
}

// close leaves no registration and no goroutine behind.
func (m *members) close() {
	for i, c := range m.cores {
		if c != nil {
			c.Forget(&m.nodes[i])
		}
	}
	if m.stop != nil {
		close(m.stop)
		m.alien.Wait()
	}
}

// AsCompleted returns an iterator over fs in the order in which they are done: those
// that are done when the range begins come first, in the order given. It yields the
// index in fs, of a duplicate the first one, and the future.
//
// When ctx ends, what is done by then is still yielded, and the iteration ends; ask
// ctx.Err(). A break, or an ended ctx, leaves nothing behind. The iterator lets go of
// each future as it yields it: a second range over it yields the rest.
// Under the context of a task of this process, the task's place in its pool is lent
// to other calls while the iteration waits.
//
// AsCompleted is safe for concurrent use; the iterator is not.
//
// Reference: concurrent.futures.as_completed, which raises TimeoutError.
func AsCompleted[T any](ctx context.Context, fs ...*Future[T]) iter.Seq2[int, *Future[T]] {
	left := make([]*Future[T], len(fs))
	seen := make(map[*Future[T]]bool, len(fs))
	for i, f := range fs {
		if !seen[f] {
			seen[f] = true
			left[i] = f
		}
	}
	return func(yield func(int, *Future[T]) bool) {
		take := func(i int) *Future[T] {
			f := left[i]
			left[i] = nil
			return f
		}
		group := promise.NewGroup()
		nodes := make([]promise.Node, len(left))
		defer func() {
			for i, f := range left {
				if f != nil {
					f.core().Forget(&nodes[i])
				}
			}
		}()
		var ready []int
		waiting := 0
		for i, f := range left {
			if f == nil {
				continue
			}
			if group.Add(f.core(), &nodes[i], i) {
				waiting++
			} else {
				ready = append(ready, i)
			}
		}
		for _, i := range ready {
			if !yield(i, take(i)) {
				return
			}
		}
		for range waiting {
			i, ok := group.Next(ctx)
			if !ok {
				break
			}
			if !yield(i, take(i)) {
				return
			}
		}
		// When ctx ended first, a future may be done that the group is told of a
		// moment later: somebody else may have seen it already.
		for i, f := range left {
			if f != nil && f.IsDone() && !yield(i, take(i)) {
				return
			}
		}
	}
}

// All waits for fs and returns their values in the order given, or the first error
// that comes, at once; the others go on. Of nothing it returns an empty slice.
//
// Errors: a future's own, or one that matches [ErrNotDone], ctx.Err() and
// context.Cause(ctx) if ctx ends first.
//
// Reference: asyncio.gather; Promise.all.
func All[T any](ctx context.Context, fs ...*Future[T]) ([]T, error) {
	left := len(distinct(fs))
	for _, f := range AsCompleted(ctx, fs...) {
		if err := f.core().Err(); err != nil {
			return nil, err
		}
		left--
	}
	if left > 0 {
		return nil, notDone(ctx, fmt.Sprintf("%d of %d futures were not done", left, len(distinct(fs))))
	}
	vs := make([]T, len(fs))
	for i, f := range fs {
		vs[i] = f.cell().Value()
	}
	return vs, nil
}

// Any waits until one of fs succeeds and returns its value; the others go on.
//
// Errors: if none succeeds, all of their errors joined, in the order given; of
// nothing, an error that says so; one that matches [ErrNotDone], ctx.Err() and
// context.Cause(ctx) if ctx ends first.
//
// Reference: ExecutorService.invokeAny, which cancels the others; Promise.any.
func Any[T any](ctx context.Context, fs ...*Future[T]) (T, error) {
	var zero T
	if len(fs) == 0 {
		return zero, errors.New("future: Any of no futures")
	}
	left := len(distinct(fs))
	for _, f := range AsCompleted(ctx, fs...) {
		if f.core().Err() == nil {
			return f.cell().Value(), nil
		}
		left--
	}
	if left > 0 {
		return zero, notDone(ctx, fmt.Sprintf("%d of %d futures were not done", left, len(distinct(fs))))
	}
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f.core().Err()
	}
	return zero, errors.Join(errs...)
}
