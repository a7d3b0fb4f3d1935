package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// disturbed is the share of the processors, used by other programs, from which on a
// row's figures are not to be trusted.
const disturbed = 0.05

// busy returns how long all processors together have worked since the system was
// started, for every program, and false where the system does not tell.
func busy() (time.Duration, bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return 0, false
	}
	var ticks int64 // of 10 ms
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, false
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, true
}

// byOthers watches the processors. What it returns says which share of them, from 0 to
// 1, was used since by others than a process that used own; 0 where that is unknown.
func byOthers() func(own time.Duration) float64 {
	start := time.Now()
	before, ok := busy()
	return func(own time.Duration) float64 {
		after, ok2 := busy()
		room := time.Since(start) * time.Duration(runtime.NumCPU())
		if !ok || !ok2 || room <= 0 {
			return 0
		}
		return min(1, max(0, float64(after-before-own)/float64(room)))
	}
}
