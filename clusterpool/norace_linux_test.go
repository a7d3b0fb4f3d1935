//go:build !race

package clusterpool_test

const raceEnabled = false
