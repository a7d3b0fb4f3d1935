package main

import (
	"net/rpc"
	"os"
	"os/exec"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"example.com/futures/bench/remote"
)

var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "GOPEERS_PLUGIN", MagicCookieValue: "calls"}

// callsPlugin serves Calls, and hands out the client as it is.
type callsPlugin struct{}

func (callsPlugin) Server(*plugin.MuxBroker) (any, error) { return Calls{}, nil }

func (callsPlugin) Client(_ *plugin.MuxBroker, c *rpc.Client) (any, error) { return c, nil }

var plugins = map[string]plugin.Plugin{"calls": callsPlugin{}}

func silent() hclog.Logger { return hclog.New(&hclog.LoggerOptions{Level: hclog.Off}) }

// openPlugin starts the children side by side, since each start has to be waited for.
func openPlugin(w remote.Work) remote.Crew {
	clients, children := make([]*rpc.Client, w.Workers), make([]*plugin.Client, w.Workers)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			cmd := exec.Command(must(os.Executable()))
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
			children[i] = plugin.NewClient(&plugin.ClientConfig{
				HandshakeConfig: handshake, Plugins: plugins, Cmd: cmd, Logger: silent(),
			})
			protocol := must(children[i].Client())
			clients[i] = must(protocol.Dispense("calls")).(*rpc.Client)
		})
	}
	wg.Wait()
	return crewOf(w, "Plugin", clients, func() {
		var wg sync.WaitGroup
		for _, c := range children {
			wg.Go(c.Kill)
		}
		wg.Wait()
	})
}

// servePlugin is a child. It ends when its parent says so.
func servePlugin() {
	plugin.Serve(&plugin.ServeConfig{HandshakeConfig: handshake, Plugins: plugins, Logger: silent()})
}
