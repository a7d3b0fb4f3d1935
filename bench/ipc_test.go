package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each thing of Python's gives right results in each kind of row: its program checks them.
func TestIPCPeers(t *testing.T) {
	linuxOnly(t)
	f := findIPC(t.Context(), t.TempDir())
	if len(f.commands) == 0 {
		t.Skip("it compares with Python, which a machine with Go alone does not have")
	}
	tested := map[string]bool{}
	for _, r := range append(inIPC(f), inManager(f)...) {
		for _, c := range r.contestants {
			kind := c.name + r.unit
			if c.class != primitives || tested[kind] {
				continue
			}
			tested[kind] = true
			t.Run(r.name+"/"+c.name, func(t *testing.T) {
				m, err := inOwnProcess(t.Context(), r, c, effort{Calls: 20, Least: time.Millisecond})
				require.NoError(t, err)
				require.Positive(t, r.value(m))
			})
		}
	}
}

// Whatever Python has takes part in some row, and so does every limit.
func TestIPCRowsHaveEverybody(t *testing.T) {
	linuxOnly(t)
	f := foreign{commands: peerCommands{}}
	names := []string{}
	for _, p := range ipcPeers {
		f.commands[p.name] = []string{"never run"}
		names = append(names, p.name)
	}
	for _, l := range ipcLimits {
		names = append(names, l.name)
	}
	for _, r := range append(inIPC(f), inManager(f)...) {
		names = slices.DeleteFunc(names, func(name string) bool {
			_, ok := r.find(name)
			return ok
		})
	}
	require.Empty(t, names)
}
