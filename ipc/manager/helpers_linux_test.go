package manager

import (
	"context"
	"encoding/gob"
	"os"
	"os/exec"

	"example.com/futures/internal/proctest"
)

func pid() int { return os.Getpid() }

func self(role string, args ...string) *exec.Cmd {
	return proctest.Self(context.Background(), role, args...)
}

// gobRegister is for values in interfaces.
func gobRegister(v any) { gob.Register(v) }
