package promise

import "errors"

// ErrCancelled is future.ErrCancelled.
var ErrCancelled = errors.New("future: cancelled")

// cancelledError is the outcome of a future that was cancelled for a cause.
type cancelledError struct{ cause error }

// CancelledError returns an error that matches ErrCancelled and cause; ErrCancelled
// itself if cause is nil.
func CancelledError(cause error) error {
	if cause == nil || cause == ErrCancelled {
		return ErrCancelled
	}
	return &cancelledError{cause}
}

func (e *cancelledError) Error() string        { return "future: cancelled: " + e.cause.Error() }
func (e *cancelledError) Is(target error) bool { return target == ErrCancelled }
func (e *cancelledError) Unwrap() error        { return e.cause }
