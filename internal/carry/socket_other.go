//go:build !linux

package carry

import (
	"errors"
	"os"
)

// A Socket is described for Linux. There is nobody to talk to elsewhere.
type Socket struct{ *os.File }

// NewSocket answers that there are none.
func NewSocket(*os.File) (*Socket, error) { return nil, errors.ErrUnsupported }

func (*Socket) Waiting() int             { return 0 }
func (*Socket) Take(int) (*Files, error) { return nil, errors.ErrUnsupported }
func (*Socket) Drop()                    {}
func (*Socket) Await() error             { return errors.ErrUnsupported }
func (*Socket) Ready() (bool, error)     { return false, errors.ErrUnsupported }

// Send answers that nothing can be sent.
func (*Socket) Send(_ []byte, fds []int) error {
	if len(fds) > MostFiles {
		return tooMany(len(fds))
	}
	return &UnsentError{errors.ErrUnsupported}
}
