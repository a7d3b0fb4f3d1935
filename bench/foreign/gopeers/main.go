// Gopeers runs one row of the group processes by what Go has for calls to child
// processes: net/rpc, and hashicorp/go-plugin over net/rpc. Neither is a pool: the calls go to the
// children in turn.
//
//	gopeers rpc|plugin WORK
//	gopeers versions
//
// WORK is JSON, see the package remote. It is a program of its own, so that what it links
// does not make the start of the bench's own binary slower.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"example.com/futures/bench/remote"
)

// serveArg, as the only argument, makes this program a child that serves net/rpc.
const serveArg = "serve"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case os.Getenv(handshake.MagicCookieKey) == handshake.MagicCookieValue:
		servePlugin()
		return nil
	case len(args) == 1 && args[0] == serveArg:
		return serveRPC()
	case len(args) == 1 && args[0] == "versions":
		return json.NewEncoder(os.Stdout).Encode(versions())
	case len(args) != 2:
		return fmt.Errorf("usage: gopeers rpc|plugin WORK")
	}
	open, ok := map[string]func(remote.Work) remote.Crew{"rpc": openRPC, "plugin": openPlugin}[args[0]]
	if !ok {
		return fmt.Errorf("there is no kind %q", args[0])
	}
	var w remote.Work
	if err := json.Unmarshal([]byte(args[1]), &w); err != nil {
		return err
	}
	r, err := w.Measure(open)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// versions returns those of what it runs.
func versions() map[string]string {
	found := map[string]string{"go": runtime.Version()[len("go"):]}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/hashicorp/go-plugin" {
				found["go-plugin"] = m.Version
			}
		}
	}
	return found
}

// must stops this process, which runs nothing else.
func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
