package clusterpool

import (
	"context"
	"fmt"
	"time"
)

// breakDown ends Serve with err: its worker processes cannot work. It takes no more calls,
// which it would fail, one after another, faster than others run them.
func (s *server) breakDown(err error) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	select {
	case s.broken <- err:
	default:
	}
}

// drain ends the worker: why is nil, or that it cannot work any more.
func (s *server) drain(why error) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.greet(true)
	for _, sub := range s.subs { // what is on its way comes, and is given back: or its lease would have to run out
		_ = sub.Drain() // fails if the connection is closed, and nothing comes any more
	}
	grace := s.cfg.Grace
	if why != nil {
		grace = 0
	}
	if !s.await(grace) {
		s.mu.Lock()
		var running []*attempt
		for a := range s.attempts {
			running = append(running, a)
		}
		s.mu.Unlock()
		for _, a := range running {
			a.giveBack()
		}
		if s.iso != nil {
			s.iso.Close() // what does not listen is killed
		}
		s.await(drainPatience)
	}
	s.mu.Lock()
	left := s.running
	s.mu.Unlock()
	close(s.quit)
	s.side.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	drained := make(chan struct{})
	go func() { // until the connection is closed, at the latest
		s.open.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	_ = s.nc.FlushWithContext(ctx) // what is lost is delivered again
	if left > 0 {
		return fmt.Errorf("clusterpool: %d calls go on in this process after they were interrupted", left)
	}
	return nil
}

// drainPatience is how long a call may take to end after it was interrupted, or the servers
// to confirm what became of it.
const drainPatience = 5 * time.Second

// await waits until nothing is in hand, or for as long as d.
func (s *server) await(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		s.mu.Lock()
		if len(s.attempts) == 0 && s.running == 0 {
			s.mu.Unlock()
			return true
		}
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle := s.idle
		s.mu.Unlock()
		select {
		case <-idle:
		case <-timer.C:
			return false
		}
	}
}

// rested tells await that something has ended. mu is held.
func (s *server) rested() {
	if s.idle != nil && s.running == 0 && len(s.attempts) == 0 {
		close(s.idle)
		s.idle = nil
	}
}
