//go:build !linux

package ring

import "time"

// Unmap does nothing: there is no Memory on this system.
func (m *Memory) Unmap() {}

// Yield does nothing.
func Yield() {}

// Sleep returns: nobody would wake who sleeps.
func (w *Worker) Sleep(func() bool, time.Duration, func()) {}

// Nap does nothing.
func Nap(time.Duration) {}

func giveBack([]byte) {}
