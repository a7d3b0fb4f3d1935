package clusterpool

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// What the pool P is to the servers. C is a client, G a generation of its calls, N a call's
// number in it, and C.G.N the call's ID.
//
//	stream P_TASKS   subjects P.q.<class>.<build>.C.G.N    a message for each call that waits or runs
//	stream P_STATE   subjects P.s.C.G.N                    the last record of each call
//	stream OBJ_P_BLOBS                                     what is too large for a message
//	P.c.<worker>     to a worker: interrupt a call
//	P.a.<worker>     to a worker, which answers: has it this call in hand?
//	P.p.C            to a client: items of a chunk that are done
//	P.w.<worker>     from a worker: it lives
//	P.hi             to all workers: say so
//
// Classes and builds have consumers of their own, whose filters must not overlap on a work
// queue, so they are a part of the subject (pitfall 11).
type names struct{ pool string }

func (n names) tasks() string { return n.pool + "_TASKS" }
func (n names) state() string { return n.pool + "_STATE" }
func (n names) blobs() string { return n.pool + "_BLOBS" }

func (n names) task(c class, build, id string) string {
	return n.pool + ".q." + c.String() + "." + buildToken(build) + "." + id
}
func (n names) anyTask(id string) string      { return n.pool + ".q.*.*." + id }
func (n names) record(id string) string       { return n.pool + ".s." + id }
func (n names) records(client string) string  { return n.pool + ".s." + client + ".>" }
func (n names) control(worker string) string  { return n.pool + ".c." + worker }
func (n names) presence(worker string) string { return n.pool + ".w." + worker }
func (n names) asked(worker string) string    { return n.pool + ".a." + worker }
func (n names) progress(client string) string { return n.pool + ".p." + client }
func (n names) hello() string                 { return n.pool + ".hi" }
func (n names) generationTasks(c, g string) string {
	return n.pool + ".q.*.*." + c + "." + g + ".>"
}
func (n names) generation(c, g string) string     { return n.pool + ".s." + c + "." + g + ".>" }
func (n names) consumer(c class, b string) string { return c.String() + "-" + buildToken(b) }

// id returns the ID in the subject of a record.
func (n names) id(subject string) (string, bool) {
	return strings.CutPrefix(subject, n.pool+".s.")
}

// buildToken is the build in subjects.
func buildToken(build string) string {
	if build == "" {
		return "_"
	}
	return build
}

// A class is a priority as the servers know it: each has a consumer of its own.
type class int

const (
	high class = iota
	normal
	low
	classes = 3
)

func classOf(priority int) class {
	switch {
	case priority > 0:
		return high
	case priority < 0:
		return low
	}
	return normal
}

func (c class) String() string { return [classes]string{"high", "normal", "low"}[c] }

// weight is how many calls of the class a worker takes for one of low, while all wait.
func (c class) weight() int { return [classes]int{16, 4, 1}[c] }

// isName reports whether s may be a token of a subject and of a stream's name
// (pitfall 17).
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if !isNameByte(c) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// sanitized makes a name of s.
func sanitized(s string) string {
	b := []byte(s[:min(len(s), 40)])
	for i, c := range b {
		if !isNameByte(c) {
			b[i] = '-'
		}
	}
	if len(b) == 0 {
		return "worker"
	}
	return string(b)
}

const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// randomName returns n random letters and digits.
func randomName(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = digits[int(b[i])%len(digits)]
	}
	return string(b)
}

// base62 returns n in letters and digits.
func base62(n uint64) string {
	var b [11]byte
	i := len(b)
	for {
		i--
		b[i] = digits[n%62]
		if n /= 62; n == 0 {
			return string(b[i:])
		}
	}
}

// checkID checks the ID of a call, which somebody else may have written.
func checkID(id string) error {
	tokens := strings.Split(id, ".")
	if len(tokens) != 3 || !isName(tokens[0]) || !isName(tokens[1]) || !isName(tokens[2]) {
		return fmt.Errorf("clusterpool: %q is not the ID of a call: it is what ID returns", id)
	}
	return nil
}
