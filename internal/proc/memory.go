package proc

import "time"

const (
	// fastest is how many bytes a second a process is taken to make resident at most.
	// Go code that touches fresh pages reaches half of that.
	fastest = 8 << 30

	shortestLook = 500 * time.Microsecond
	longestLook  = 5 * time.Millisecond
)

// NextLook returns when to look again at a process that has size resident bytes and may
// have limit: so soon that it can hardly pass the limit by then, but never so soon that
// looking is a load, nor so late that one which has only begun is missed.
func NextLook(size, limit int64) time.Duration {
	room := min(max(limit-size, 0), fastest)
	return min(max(time.Duration(room)*time.Second/fastest, shortestLook), longestLook)
}
