package segment

import "time"

// pollAlive waits for the end of a process that no descriptor can be had of.
func pollAlive(w watch) (ended bool) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return false
		case <-t.C:
			if !w.alive() {
				return true
			}
		}
	}
}
