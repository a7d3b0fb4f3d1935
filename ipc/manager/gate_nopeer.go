//go:build !linux

package manager

import "net"

// isAbstract reports whether addr is a name that is not in the file system. Only Linux has such.
func isAbstract(string) bool { return false }

func peerOf(net.Conn) (peer, error) { return peer{}, errNoPeer }
