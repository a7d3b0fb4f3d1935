package proc

import (
	"os"
	"path"
	"strings"
)

// Quota reports whether this process may use less than the processors that it has: by a
// quota of its control group, or of one around that. Who spins then takes time from
// himself.
func Quota() bool {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[1] == "":
			for dir := parts[2]; ; dir = path.Dir(dir) {
				if limited("/sys/fs/cgroup"+dir+"/cpu.max", "max") {
					return true
				}
				if dir == "/" || dir == "." {
					break
				}
			}
		case strings.Contains(parts[1], "cpu") && !strings.Contains(parts[1], "cpuset"):
			if limited("/sys/fs/cgroup/cpu"+parts[2]+"/cpu.cfs_quota_us", "-1") {
				return true
			}
		}
	}
	return false
}

// limited reports whether the first word in a file is a number, and not the one for none.
func limited(file, none string) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	words := strings.Fields(string(b))
	return len(words) > 0 && words[0] != none
}
