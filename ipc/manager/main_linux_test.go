package manager

import (
	"testing"

	"example.com/futures/internal/proctest"
	"example.com/futures/worker"
)

func TestMain(m *testing.M) {
	worker.Main()
	proctest.Main(m, play)
}

// roles are what a process does that a test has started. Test files put theirs in from init.
var roles = map[string]func(){}

func play(role string) {
	if fn := roles[role]; fn != nil {
		fn()
	}
}
