//go:build !race

package segment

const raceEnabled = false

func released(uint64) {}
func acquired(uint64) {}
