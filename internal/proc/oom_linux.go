package proc

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// When memory runs out, Linux kills a process by SIGKILL, which looks like anybody's.
// It counts such kills, for the control group of the process or at least for the
// machine, and says in its log whom it has killed. So a worker that was killed, though
// not by us, and while the counter rose, was perhaps killed for that, and was for sure
// if the log says so. Who may not read the log learns of the former only.

const (
	oomKnown   = "killed by the system's out-of-memory killer"
	oomPerhaps = "killed, perhaps by the system's out-of-memory killer, which ended a process of this machine or control group meanwhile"
)

// oomKills returns how many processes were killed for want of memory so far, where that
// is counted.
var oomKills = sync.OnceValue(func() func() (int64, bool) {
	file, key := oomCounter()
	return func() (int64, bool) {
		b, err := os.ReadFile(file)
		if err != nil {
			return 0, false
		}
		return counter(b, key)
	}
})

// oomCounter returns the file that counts most closely: of this process's memory
// control group, of either version, or of the machine.
func oomCounter() (file, key string) {
	groups, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, c := range []struct{ kind, option, controller, file string }{
		{"cgroup2", "", "", "memory.events"},
		{"cgroup", "memory", "memory", "memory.oom_control"},
	} {
		dir, ok := cgroupDir(string(groups), string(mounts), c.kind, c.option, c.controller)
		if !ok {
			continue
		}
		file := filepath.Join(dir, c.file)
		if b, err := os.ReadFile(file); err == nil {
			if _, ok := counter(b, "oom_kill"); ok {
				return file, "oom_kill"
			}
		}
	}
	return "/proc/vmstat", "oom_kill"
}

// counter finds a line "key value".
func counter(b []byte, key string) (int64, bool) {
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// cgroupDir returns the directory of a process's control group in a hierarchy: of kind
// cgroup2, or of kind cgroup with a mount option. groups and mounts are the process's
// files cgroup and mountinfo; controller is the hierarchy's name in the former.
func cgroupDir(groups, mounts, kind, option, controller string) (string, bool) {
	var group string
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && (f[1] == controller || controller != "" && strings.Contains(","+f[1]+",", ","+controller+",")) {
			group = f[2]
		}
	}
	if group == "" {
		return "", false
	}
	for line := range strings.Lines(mounts) {
		where, what, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, k := strings.Fields(where), strings.Fields(what)
		if !ok || len(f) < 6 || len(k) < 3 || k[0] != kind || option != "" && !strings.Contains(","+k[2]+",", ","+option+",") {
			continue
		}
		// The fourth field is the group that is the root of the mount.
		rest, ok := strings.CutPrefix(group+"/", strings.TrimSuffix(f[3], "/")+"/")
		if !ok || strings.HasPrefix(rest, "../") {
			continue
		}
		return filepath.Join(f[4], rest), true
	}
	return "", false
}

// oom says whether a process that was killed, and not by us, met the out-of-memory
// killer: in words, or "". before is what oomKills said when the process was started.
func oom(pid int, before int64) string {
	now, ok := oomKills()()
	if !ok || now <= before {
		return ""
	}
	if loggedOOM(pid) {
		return oomKnown
	}
	return oomPerhaps
}

// initPIDs is the number of the first namespace of process IDs: only there the log's
// numbers are ours. It is a constant of the kernel, PROC_PID_INIT_INO.
const initPIDs = "pid:[4026531836]"

// loggedOOM reports whether the kernel's log, as far as this process may read it, says
// that the process was killed for want of memory.
func loggedOOM(pid int) bool {
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initPIDs {
		return false
	}
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	found := false
	buf := make([]byte, 8<<10) // longer than a record
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EPIPE): // a record was overwritten before it was read
			continue
		case err != nil || n <= 0:
			return found
		}
		found = found || killedFor(buf[:n], pid)
	}
}

// killedProcess is compiled when it is needed: every worker would pay for it at its start.
var killedProcess = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)out of memory.*: Killed process (\d+) `)
})

// killedFor reports whether a record of the kernel's log says that process pid was
// killed for want of memory.
func killedFor(record []byte, pid int) bool {
	s := bufio.NewScanner(bytes.NewReader(record))
	for s.Scan() {
		if m := killedProcess().FindSubmatch(s.Bytes()); m != nil && string(m[1]) == strconv.Itoa(pid) {
			return true
		}
	}
	return false
}
