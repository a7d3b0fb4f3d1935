package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// A report is what the program has to say in the end.
type report struct {
	numbers     []int64
	given       bool // the numbers were given, so each one's answer is of interest
	interrupted bool
	results     []result
}

func (rep *report) add(r result) { rep.results = append(rep.results, r) }

// count returns how many numbers r has checked, and how many of them are prime.
func (r result) count() (checked, primes int) {
	for _, v := range r.verdicts {
		if v != unknown {
			checked++
		}
		if v == prime {
			primes++
		}
	}
	return checked, primes
}

// speedUp compares r with the serial run; it is 0 unless both are complete.
func (rep *report) speedUp(r result) float64 {
	for _, s := range rep.results {
		if s.backend == "serial" && s.complete && r.complete {
			return s.elapsed.Seconds() / r.elapsed.Seconds()
		}
	}
	return 0
}

// verdict returns what is known about number i, by the first backend that knows.
func (rep *report) verdict(i int) verdict {
	for _, r := range rep.results {
		if v := r.verdicts[i]; v != unknown {
			return v
		}
	}
	return unknown
}

// disagreement names the first number that two backends disagree about; it is ""
// if there is none.
func (rep *report) disagreement() string {
	for i, n := range rep.numbers {
		for _, r := range rep.results {
			if v := r.verdicts[i]; v != unknown && v != rep.verdict(i) {
				return fmt.Sprintf("%s differs about %d", r.backend, n)
			}
		}
	}
	return ""
}

// digits returns how many decimals of a second the shortest run calls for.
func (rep *report) digits() int {
	for _, r := range rep.results {
		if r.elapsed < 100*time.Millisecond {
			return 6
		}
	}
	return 3
}

func (rep *report) writeText(w io.Writer) error {
	if rep.given {
		for i, n := range rep.numbers {
			switch rep.verdict(i) {
			case prime:
				fmt.Fprintln(w, n, "is prime")
			case composite:
				fmt.Fprintln(w, n, "is not prime")
			case unknown:
				fmt.Fprintln(w, n, "was not checked")
			}
		}
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "backend  \ttime\tspeed-up\tworkers\tcalls\tchecked\tprimes\t")
	digits := rep.digits()
	for _, r := range rep.results {
		speedUp := "-"
		if s := rep.speedUp(r); s > 0 {
			speedUp = fmt.Sprintf("%.2f", s)
		}
		checked, primes := r.count()
		fmt.Fprintf(table, "%-9s\t%.*f s\t%s\t%d\t%d\t%d of %d\t%d\t\n",
			r.backend, digits, r.elapsed.Seconds(), speedUp, r.workers, r.calls, checked, len(rep.numbers), primes)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var err error
	switch d := rep.disagreement(); {
	case d != "":
		_, err = fmt.Fprintln(w, "\nall agree: no:", d)
	case len(rep.results) > 1:
		_, err = fmt.Fprintln(w, "\nall agree: yes")
	}
	return err
}

func (rep *report) writeJSON(w io.Writer) error {
	type number struct {
		Number int64 `json:"number"`
		Prime  bool  `json:"prime"`
	}
	type row struct {
		Backend string  `json:"backend"`
		Seconds float64 `json:"seconds"`
		SpeedUp float64 `json:"speedUp,omitempty"`
		Workers int     `json:"workers"`
		Calls   uint64  `json:"calls"`
		Checked int     `json:"checked"`
		Primes  int     `json:"primes"`
	}
	out := struct {
		Count       int      `json:"count"`
		Interrupted bool     `json:"interrupted"`
		Agree       bool     `json:"agree"`
		Backends    []row    `json:"backends"`
		Numbers     []number `json:"numbers"` // those that were checked
	}{len(rep.numbers), rep.interrupted, rep.disagreement() == "", []row{}, []number{}}
	for _, r := range rep.results {
		checked, primes := r.count()
		out.Backends = append(out.Backends, row{r.backend, r.elapsed.Seconds(), rep.speedUp(r), r.workers, r.calls, checked, primes})
	}
	for i, n := range rep.numbers {
		if v := rep.verdict(i); v != unknown {
			out.Numbers = append(out.Numbers, number{n, v == prime})
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
