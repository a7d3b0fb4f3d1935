// Package proctest is what tests of worker processes have in common: a TestMain that
// sees that nothing is left, the test binary as a program that is to be killed, and
// files by which a task in another process says that it runs.
package proctest
