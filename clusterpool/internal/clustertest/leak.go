package clustertest

import "go.uber.org/goleak"

// IgnoreListeners has leak tests leave out a goroutine of nats.go (v1.55): one that listens for
// the end of the connection while an object is put into a store, and stays for ever, on a
// channel that is nil, if it gets to run only after that.
func IgnoreListeners() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")
}
