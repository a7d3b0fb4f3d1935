package manager

import (
	"crypto/rand"
	"time"
)

func newToken() (t token) {
	_, _ = rand.Read(t[:]) // it does not fail
	return t
}

// departTimed is depart for as long as ticketTime.
func (s *server) departTimed(id uint64) (token, error) {
	t := newToken()
	timer := time.NewTimer(ticketTime)
	if err := s.depart(t, id, func() {}); err != nil {
		timer.Stop()
		return t, err
	}
	s.wg.Go(func() { // ends with the time, or the server
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.over:
		}
		s.arrive(t)
	})
	return t, nil
}
