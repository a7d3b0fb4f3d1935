//go:build race

package clusterpool_test

const raceEnabled = true
