package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A progress shows how far a backend has come.
type progress interface {
	step() // one more number has been checked
	end()  // there is no more to come
}

// newProgress returns a live bar if w is a terminal, and otherwise a line for each
// quarter, which a log can keep.
func newProgress(w io.Writer, name string, total int) progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		return newBar(w, name, total)
	}
	return &quarters{w: w, name: name, total: total}
}

// A bar redraws itself also while no number is done, so that its clock goes on.
type bar struct {
	*progressbar.ProgressBar
	w             io.Writer
	stop, stopped chan struct{} // closed by end; closed by tick when it returns
}

func newBar(w io.Writer, name string, total int) *bar {
	b := &bar{
		w:    w,
		stop: make(chan struct{}), stopped: make(chan struct{}),
		ProgressBar: progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetDescription(fmt.Sprintf("%-9s", name)),
			progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(),
			progressbar.OptionShowElapsedTimeOnFinish(),
			progressbar.OptionUseANSICodes(true),
		),
	}
	go b.tick()
	return b
}

// tick ends when b.end is called.
func (b *bar) tick() {
	defer close(b.stopped)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		_ = b.RenderBlank() // a terminal that has gone is no reason to stop counting
		select {
		case <-ticker.C:
		case <-b.stop:
			return
		}
	}
}

func (b *bar) step() { _ = b.Add(1) }

func (b *bar) end() {
	close(b.stop)
	<-b.stopped
	_ = b.Exit() // leaves the bar where it stands
	fmt.Fprintln(b.w)
}

// quarters writes a line each time that a quarter of the numbers is done.
type quarters struct {
	w           io.Writer
	name        string
	done, total int
}

func (q *quarters) step() {
	before := 4 * q.done / q.total
	q.done++
	if after := 4 * q.done / q.total; after > before {
		fmt.Fprintf(q.w, "%s: %d of %d (%d %%)\n", q.name, q.done, q.total, 25*after)
	}
}

func (q *quarters) end() {}
