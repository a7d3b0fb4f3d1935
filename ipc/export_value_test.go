package ipc

import "example.com/futures/internal/segment"

// CloseShown closes what Slice keeps from being collected.
func CloseShown() {
	shown.Range(func(h, _ any) bool {
		h.(*segment.Handle).Close()
		shown.Delete(h)
		return true
	})
}
