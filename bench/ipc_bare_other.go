//go:build !linux

package main

// ipcLimits are for Linux, as package ipc is.
var ipcLimits []namedOpener
