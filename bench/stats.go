package main

import "slices"

// A spread is the middle of some values, and the smallest and largest.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf returns the spread of values, of which there must be one or more.
func spreadOf(values []float64) spread {
	s := slices.Sorted(slices.Values(values))
	middle := s[len(s)/2]
	if len(s)%2 == 0 {
		middle = (s[len(s)/2-1] + middle) / 2
	}
	return spread{Median: middle, Min: s[0], Max: s[len(s)-1]}
}

// A run is one measurement of one contestant.
type run struct {
	Row        string      `json:"row"`
	Contestant string      `json:"contestant"`
	Class      class       `json:"class"`
	Round      int         `json:"round"` // from 1
	Value      float64     `json:"value"` // in the row's unit
	Measured   measurement `json:"measured"`
}

// value is what most goals are about.
func (r run) value() float64 { return r.Value }

// allocs is how many objects were allocated for a call.
func (r run) allocs() float64 { return r.Measured.Allocs }

// of returns the runs of a contestant, by round.
func of(runs []run, contestant string) map[int]run {
	rounds := map[int]run{}
	for _, r := range runs {
		if r.Contestant == contestant {
			rounds[r.Round] = r
		}
	}
	return rounds
}

// measuredBy returns the spread of a metric over the rounds of a contestant, and
// false if there are none.
func measuredBy(runs []run, contestant string, metric func(run) float64) (spread, bool) {
	var values []float64
	for _, r := range of(runs, contestant) {
		values = append(values, metric(r))
	}
	if len(values) == 0 {
		return spread{}, false
	}
	return spreadOf(values), true
}

// ratio returns the spread of a's metric divided by b's in the same round, and false
// if they have no round in common.
func ratio(runs []run, a, b string, metric func(run) float64) (spread, bool) {
	other := of(runs, b)
	var values []float64
	for round, r := range of(runs, a) {
		if o, ok := other[round]; ok && metric(o) != 0 {
			values = append(values, metric(r)/metric(o))
		}
	}
	if len(values) == 0 {
		return spread{}, false
	}
	return spreadOf(values), true
}
