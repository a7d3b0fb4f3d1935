package main

import (
	"context"
	_ "embed" // the program
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"example.com/futures/bench/remote"
)

//go:embed foreign/ipc.py
var ipcPython string

// The names of what Python's processes talk through.
const (
	mpQueue     = "multiprocessing.Queue"
	mpBounded   = "multiprocessing.Queue(1024)"
	mpSimple    = "multiprocessing.SimpleQueue"
	mpPipe      = "multiprocessing.Pipe"
	mpPipeBytes = "multiprocessing.Pipe, send_bytes"
	mpLock      = "multiprocessing.Lock"
	mpRLock     = "multiprocessing.RLock"
	mpSemaphore = "multiprocessing.Semaphore"
	mpLimited   = "multiprocessing.BoundedSemaphore"
	mpEvent     = "multiprocessing.Event"
	mpCondition = "multiprocessing.Condition"
	mpBarrier   = "multiprocessing.Barrier"
	mpValue     = "multiprocessing.Value"
	mpStruct    = "multiprocessing.Value, ctypes.Structure"
	mpArray     = "multiprocessing.Array"
	mpShared    = "shared_memory by its name, Pool"

	mpGet        = "multiprocessing.Manager: d[k]"
	mpSet        = "multiprocessing.Manager: d[k] = v"
	mpGetThreads = "multiprocessing.Manager: d[k], threads"
	mpSetThreads = "multiprocessing.Manager: d[k] = v, threads"
	mpJobs       = "multiprocessing.Manager: Queue(1024)"
	mpCounted    = "multiprocessing.Manager: Value, Lock"
	mpMethod     = "BaseManager.register: a method"
	mpMethods    = "BaseManager.register: a method, 10 processes"
)

// ipcPeers has for each of them what the program calls it.
var ipcPeers = []struct{ name, kind string }{
	{mpQueue, "queue"},
	{mpBounded, "queue1024"},
	{mpSimple, "simplequeue"},
	{mpPipe, "pipe"},
	{mpPipeBytes, "pipebytes"},
	{mpLock, "lock"},
	{mpRLock, "rlock"},
	{mpSemaphore, "semaphore"},
	{mpLimited, "bounded"},
	{mpEvent, "event"},
	{mpCondition, "condition"},
	{mpBarrier, "barrier"},
	{mpValue, "value"},
	{mpStruct, "struct"},
	{mpArray, "array"},
	{mpShared, "sharedmemory"},
	{mpGet, "dictget"},
	{mpSet, "dictset"},
	{mpGetThreads, "dictget-threads"},
	{mpSetThreads, "dictset-threads"},
	{mpJobs, "managerqueue"},
	{mpCounted, "managervalue"},
	{mpMethod, "method"},
	{mpMethods, "method"},
}

// ipcPeers returns those of the named that this machine has, doing w.
func (f foreign) ipcPeers(w remote.Work, names ...string) []contestant {
	var cs []contestant
	for _, p := range ipcPeers {
		command, ok := f.commands[p.name]
		if !ok || !slices.Contains(names, p.name) {
			continue
		}
		cs = append(cs, contestant{name: p.name, class: primitives, command: func(e effort) []string {
			text := must(json.Marshal(limited(w, e)))
			return append(slices.Clip(command), p.kind, string(text))
		}})
	}
	return cs
}

// findIPC looks for Python. What it writes goes to dir.
func findIPC(ctx context.Context, dir string) foreign {
	f := foreign{commands: peerCommands{}}
	python, version, err := findPython(ctx)
	file := filepath.Join(dir, "ipc.py")
	if err == nil {
		err = os.WriteFile(file, []byte(ipcPython), 0o600)
	}
	if err != nil {
		f.missing = append(f.missing, missing{"Python's multiprocessing", err.Error()})
		return f
	}
	f.tools = append(f.tools, fmt.Sprintf("python %s (%s)", version, python))
	for _, p := range ipcPeers {
		f.commands[p.name] = []string{python, file}
	}
	return f
}
