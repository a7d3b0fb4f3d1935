package remote

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"
)

// start opens a crew and has it give one result, Calls times. A crew is closed, and
// there is a rest of Each, before the next is opened.
func (w Work) start(open func(Work) Crew) (Result, error) {
	var took []time.Duration
	for range w.Calls {
		time.Sleep(w.Each)
		from := time.Now()
		c := open(w)
		got := c.Call(1)
		d := time.Since(from)
		c.Close()
		if got != 2 {
			return Result{}, fmt.Errorf("the first call has result %d", got)
		}
		took = append(took, d)
	}
	return starts(took, map[string]float64{First: millis(middle(took))}), nil
}

// startAll opens a crew and takes the time until the first of as many calls as it has
// workers has a result, and that until all workers have one, each in a crew of its own.
func (w Work) startAll(open func(Work) Crew) (Result, error) {
	var first, all []time.Duration
	for range w.Calls {
		from := time.Now()
		c := open(w)
		done := make(chan time.Duration, w.Workers)
		var wg sync.WaitGroup
		for i := range w.Workers {
			result := c.Submit(i)
			wg.Go(func() {
				result()
				done <- time.Since(from)
			})
		}
		wg.Wait()
		first = append(first, <-done)
		c.Close()

		from = time.Now()
		c = open(w)
		var err error
		if c.All != nil {
			c.All()
		} else {
			err = w.meet(c)
		}
		d := time.Since(from)
		c.Close()
		if err != nil {
			return Result{}, err
		}
		all = append(all, d)
	}
	return starts(all, map[string]float64{First: millis(middle(first)), All: millis(middle(all))}), nil
}

func starts(took []time.Duration, figures map[string]float64) Result {
	r := Result{Calls: len(took), Figures: figures}
	for _, d := range took {
		r.Nanos += d.Nanoseconds()
	}
	return r
}

func middle(took []time.Duration) time.Duration { return at(slices.Sorted(slices.Values(took)), 0.5) }

// idle says what processor time a crew and this process use while nothing is to be done,
// and how often one of their threads was woken. Another process looks: to look
// costs more than to idle.
func (w Work) idle(open func(Work) Crew) (Result, error) {
	c, err := w.opened(open)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	self, err := os.Executable()
	if err != nil {
		return Result{}, err
	}
	watch := exec.Command(self, WatchArg, strconv.Itoa(os.Getpid()), w.Each.String())
	watch.Stderr = os.Stderr
	out, err := watch.Output()
	if err != nil {
		return Result{}, fmt.Errorf("watching: %w", err)
	}
	r := Result{Calls: w.Workers}
	return r, json.Unmarshal(out, &r)
}
