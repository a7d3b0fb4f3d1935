package executor

import (
	"errors"
	"slices"
)

// A RemoteError is an error from another process that could not travel as itself:
// its type is not known here, or cannot be encoded. Its causes came with it, each
// as itself where that is possible, so errors.Is and errors.As find what they
// would have found there.
//
// For an error that wraps several others, such as that of errors.Join, what comes
// back has an Unwrap() []error as the original had: use errors.As to get at its
// RemoteError.
type RemoteError struct {
	Type    string // as %T prints it, in the other process
	Message string // the text of its Error method
	Stack   string // of the panic that caused it; "" if there was none

	causes  []error // what it wraps
	matches []error // what its Is method answered true for, among the well-known errors
}

// Error returns Message, so that an error has the same text on both sides.
func (e *RemoteError) Error() string { return e.Message }

// Unwrap returns what the error wraps: nil, the one cause, or errors.Join of several.
func (e *RemoteError) Unwrap() error {
	if len(e.causes) == 1 {
		return e.causes[0]
	}
	return errors.Join(e.causes...)
}

// Is reports whether the error, in the other process, had an Is method that said it
// matches target. It knows of the errors that [EncodeError] knows.
func (e *RemoteError) Is(target error) bool { return slices.Contains(e.matches, target) }

// A remoteJoin is a RemoteError whose original had the other form of Unwrap. There
// are programs that ask for it, to print each of the errors that were joined.
type remoteJoin struct{ RemoteError }

func (e *remoteJoin) Unwrap() []error { return e.causes }

func (e *remoteJoin) As(target any) bool {
	re, ok := target.(**RemoteError)
	if ok {
		*re = &e.RemoteError
	}
	return ok
}

// remoteOf returns err as a RemoteError, if it is one, and whether it is joined.
func remoteOf(err error) (e *RemoteError, joined bool) {
	switch e := err.(type) {
	case *RemoteError:
		return e, false
	case *remoteJoin:
		return &e.RemoteError, true
	}
	return nil, false
}

// RegisterError makes err keep its identity across processes: an error that matches
// err by errors.Is in a worker matches it in the program that gets the error back.
// Every process must register err under the same name, which a package does best
// where it declares the variable:
//
//	var ErrNoStock = errors.New("shop: no stock")
//
//	func init() { executor.RegisterError("shop.ErrNoStock", ErrNoStock) }
//
// The sentinels of this module and the well-known ones of the standard library
// ([EncodeError] lists them) are registered. An error type with exported fields is
// registered with gob.Register instead.
//
// RegisterError is safe for concurrent use.
//
// It panics if name is "", if err is nil or cannot be compared, and if name is
// registered for another error, like gob.Register.
func RegisterError(name string, err error) { sentinels.add(name, err) }

// EncodeError encodes err for [DecodeError] in another process. It is for backends
// whose calls leave the process: a task's error goes through EncodeError there, and
// what DecodeError makes of it goes to [Call] Fail here.
//
// These come back so that errors.Is and errors.As hold, at any depth of the tree
// of wrapped errors:
//
//   - errors registered with [RegisterError], and those of this module
//   - the sentinels of context, io, io/fs, os, net, errors and strconv
//   - *fs.PathError, *os.LinkError, *os.SyscallError, *strconv.NumError,
//     *net.OpError, *net.DNSError, *net.AddrError, *net.ParseError, and syscall.Errno
//     between systems of one kind; addresses in them come back as text
//   - *[PanicError], *[WorkerLostError], *[BrokenError], *[RemoteError]
//   - error types registered with gob.Register, if gob loses nothing of them: those
//     with exported fields only, or with GobEncode and GobDecode. Fields of the types
//     error and []error may hold anything
//
// Anything else comes back as a *RemoteError, with its type, its text and its
// causes. The text of err stays as it is.
//
// EncodeError does not fail and does not panic: a panic in a method of an error
// becomes the error's text. What is beyond 100 levels or 1,000 errors of a tree is
// cut off, and a note put in its place; a text is cut at 1 MiB, a tree at 4 MiB, beyond
// which texts are cut at 4 KiB. A nil
// err, which is a mistake of the caller, becomes an error that says so.
//
// EncodeError is safe for concurrent use. It reads err and changes nothing in it.
func EncodeError(err error) []byte {
	if err == nil {
		err = errNil
	}
	w := errorWriter{b: []byte{errorFormat}}
	w.error(err, 0)
	return w.b
}

var errNil = errors.New("executor: a nil error was sent as the error of a call")

// DecodeError returns the error that [EncodeError] encoded as b. It never returns nil
// and never panics, whatever b is: bytes that EncodeError did not write become an
// error that says so. What it returns is its caller's own, but for sentinels.
//
// An error type that was registered with gob.Register there but not here, or has
// other fields here, is a *[RemoteError].
//
// DecodeError is safe for concurrent use. It does not keep b.
func DecodeError(b []byte) error {
	if len(b) == 0 || len(b) > maxErrorAll || b[0] != errorFormat {
		return errMalformed
	}
	r := errorReader{b: b[1:]}
	err := r.error(0)
	if r.bad || len(r.b) > 0 {
		return errMalformed
	}
	return err
}

var errMalformed = errors.New("executor: an error came back from another process in a form that cannot be read")
