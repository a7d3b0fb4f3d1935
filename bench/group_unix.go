//go:build unix

package main

import (
	"os/exec"
	"syscall"
	"time"
)

// inGroup has cmd run in a process group of its own, which is killed when its context
// ends: pools of others leave their workers behind when they are killed. What it returns
// kills what is left of the group, if cmd was started.
func inGroup(cmd *exec.Cmd) (sweep func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // nobody is left, as a rule
	cmd.Cancel = func() error { kill(); return nil }
	cmd.WaitDelay = 5 * time.Second // who is left may hold the output open
	return func() {
		if cmd.Process != nil {
			kill()
		}
	}
}
