package proc

import "os"

// Excerpt returns what is kept of a text that is written in parts.
func Excerpt(parts ...string) string {
	var e excerpt
	for _, p := range parts {
		e.add([]byte(p))
	}
	return e.text()
}

// A Control is one end of the conversation with a fork server.
type Control struct{ c *control }

// ControlPair returns both ends, each of which expects the other in process peer.
func ControlPair(peer int) (a, b Control, err error) {
	f, g, err := controlPair()
	return Control{&control{f: f, peer: peer}}, Control{&control{f: g, peer: peer}}, err
}

// File returns the socket.
func (c Control) File() *os.File { return c.c.f }

// Send sends a string and files.
func (c Control) Send(v string, files ...*os.File) error { return c.c.send(v, files...) }

// Receive receives a string and descriptors.
func (c Control) Receive() (v string, fds []int, err error) {
	fds, err = c.c.receive(&v)
	return v, fds, err
}

// What finds out about the out-of-memory killer.
var (
	CgroupDir = cgroupDir
	Counter   = counter
	KilledFor = killedFor
	OOM       = oom
	OOMKills  = func() (int64, bool) { return oomKills()() }
)

// TakeTurn waits until a process may be started.
var TakeTurn = takeTurn
