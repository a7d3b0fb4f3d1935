package promise

// Linked returns how many waiters and callbacks are registered with c.
func (c *Core) Linked() int {
	e := c.ext.Load()
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for node := e.head; node != nil; node = node.next {
		n++
	}
	return n
}
