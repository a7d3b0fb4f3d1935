package remote

import "example.com/futures/internal/proc"

// Prepare checks config, a *worker.Config, and fills in its defaults for one of so many
// workers. It answers how such a worker is started. An error begins with where, to which
// the name of the field at fault is added.
//
// Package worker sets it. It is no method of the Config because it is for this module
// alone, and no function of this package because worker imports this one.
var Prepare func(config any, where string, workers int) (proc.Spec, error)
