//go:build !linux

package main

import "errors"

// bareLimits are for Linux, as worker processes are.
var bareLimits []bareLimit

const bareArg = "bare"

func bareMain([]string) error { return errors.ErrUnsupported }
