package manager

import "context"

// An Event is a flag between the clients of a manager that can be waited for.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost].
//
// An Event is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.Event (Python 3.14), where an event that is set and cleared at once may
// wake nobody; here everybody who waited at that time goes on.
type Event struct{ object }

// NewEvent has the server of m make an event that is not set, and returns a proxy of it.
//
// Errors: [ipc.ErrClosed], [ErrLost].
func NewEvent(ctx context.Context, m *Manager) (*Event, error) {
	e := new(Event)
	if err := create(ctx, m, kindEvent, e, nil); err != nil {
		return nil, err
	}
	return e, nil
}

// Set sets the event: who waits goes on, and whoever comes does not wait, until Clear. It is
// carried out under a ctx that has ended, too.
func (e *Event) Set(ctx context.Context) error { return e.do(ctx, "event set", opEventSet, nil) }

// Clear takes Set back, for those who come from now on. It is carried out under a ctx that has
// ended, too.
func (e *Event) Clear(ctx context.Context) error { return e.do(ctx, "event clear", opEventClear, nil) }

// IsSet reports whether the event is set.
func (e *Event) IsSet(ctx context.Context) (bool, error) {
	return e.askBool(ctx, "event is set", opEventIsSet, nil)
}

// Wait waits until the event is set, also if it is cleared again at once.
//
// Errors: one that matches ctx.Err() when ctx ended first.
func (e *Event) Wait(ctx context.Context) error { return e.do(ctx, "event wait", opEventWait, nil) }

func (*Event) describe() string { return "Event" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (e *Event) GobEncode() ([]byte, error) { return encode(e) }

// GobDecode is for the decoders of this module.
func (e *Event) GobDecode(b []byte) error { return e.decode(e, b) }
