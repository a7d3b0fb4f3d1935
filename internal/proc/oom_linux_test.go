package proc_test

import (
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proc"
)

// The control group of a process is found wherever its hierarchy is mounted.
func TestCgroupDir(t *testing.T) {
	const (
		v2      = "0::/user.slice/a.scope\n"
		v1      = "4:memory,hugetlb:/jobs/7\n3:cpuset:/\n0::/\n"
		mounts2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
		mounts1 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" +
			"35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory,hugetlb\n"
	)
	for name, tt := range map[string]struct {
		groups, mounts, kind, option, controller string
		want                                     string
	}{
		"version 2":             {v2, mounts2, "cgroup2", "", "", "/sys/fs/cgroup/user.slice/a.scope"},
		"version 1":             {v1, mounts1, "cgroup", "memory", "memory", "/sys/fs/cgroup/memory/jobs/7"},
		"both":                  {v1, mounts1, "cgroup2", "", "", "/sys/fs/cgroup/unified"},
		"no version 1":          {v2, mounts2, "cgroup", "memory", "memory", ""},
		"a part is mounted":     {v2, "30 23 0:26 /user.slice /cg rw - cgroup2 cgroup2 rw\n", "cgroup2", "", "", "/cg/a.scope"},
		"another part":          {v2, "30 23 0:26 /system.slice /cg rw - cgroup2 cgroup2 rw\n", "cgroup2", "", "", ""},
		"a like-named part":     {v2, "30 23 0:26 /user /cg rw - cgroup2 cgroup2 rw\n", "cgroup2", "", "", ""},
		"outside the namespace": {"0::/../b\n", mounts2, "cgroup2", "", "", ""},
		"nothing":               {"", "", "cgroup2", "", "", ""},
		"malformed":             {"0:\nx\n", "30 23\n - \n", "cgroup2", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, ok := proc.CgroupDir(tt.groups, tt.mounts, tt.kind, tt.option, tt.controller)
			require.Equal(t, tt.want != "", ok)
			require.Equal(t, tt.want, dir)
		})
	}
}

// A counter is found by its whole name.
func TestCounter(t *testing.T) {
	for text, want := range map[string]int64{
		"low 0\nhigh 0\noom 9\noom_kill 3\noom_group_kill 1\n": 3,
		"oom_kill_disable 1\nunder_oom 0\noom_kill 12":         12,
	} {
		n, ok := proc.Counter([]byte(text), "oom_kill")
		require.True(t, ok)
		require.Equal(t, want, n)
	}
	for _, text := range []string{"", "oom_kill", "oom_kill x", "oom_kill_disable 1"} {
		_, ok := proc.Counter([]byte(text), "oom_kill")
		require.False(t, ok, text)
	}
}

// The kernel's log names the process that was killed, in all its ways to put it.
func TestKilledFor(t *testing.T) {
	for _, record := range []string{
		"3,1,2,-;Out of memory: Killed process 123 (worker) total-vm:1kB, anon-rss:2kB\n",
		"3,1,2,-;Memory cgroup out of memory: Killed process 123 (worker) total-vm:1kB\n SUBSYSTEM=x\n",
		"3,1,2,-;Out of memory (oom_kill_allocating_task): Killed process 123 (worker) total-vm:1kB\n",
	} {
		require.True(t, proc.KilledFor([]byte(record), 123), record)
		require.False(t, proc.KilledFor([]byte(record), 12), record)
		require.False(t, proc.KilledFor([]byte(record), 23), record)
	}
	require.False(t, proc.KilledFor([]byte("6,1,2,-;Killed process 123 (by hand)\n"), 123))
}

// A kill while nobody was killed for want of memory is not taken for one. One while
// somebody was may have been: without the log, nothing more is said.
func TestOOM(t *testing.T) {
	require.Empty(t, proc.OOM(os.Getpid(), math.MaxInt64))
	n, ok := proc.OOMKills()
	if !ok {
		t.Skip("nothing counts such kills here")
	}
	require.Equal(t, "killed, perhaps by the system's out-of-memory killer, which ended a process of this machine or control group meanwhile", proc.OOM(os.Getpid(), n-1))
}
