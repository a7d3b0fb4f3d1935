//go:build !unix

package manager

import (
	"io/fs"
	"net"
)

// privateFiles says that the mode of a socket keeps others from connecting.
const privateFiles = false

func listenFile(path string) (net.Listener, fs.FileInfo, error) {
	ln, err := net.Listen("unix", path)
	return ln, nil, err // it removes the socket itself
}
