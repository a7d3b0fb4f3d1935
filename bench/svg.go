package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The measures of a plot, in pixels.
const (
	plotWidth   = 760
	plotLabels  = 250 // left of the bars
	plotValues  = 130 // right of the bars
	plotTop     = 62
	plotLine    = 24 // from bar to bar
	plotBar     = 14
	plotLegend  = 30
	cutAt       = 8.0 // a bar is cut at so many times the reference, for the others to be seen
	plotBarRoom = plotWidth - plotLabels - plotValues
)

// plotStyle has the colours for a light and for a dark page.
const plotStyle = `
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 14px; font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.whisker { stroke: #1f2328; stroke-width: 1.2; }
.ours { fill: #0969da; } .bare { fill: #8c959f; } .pools { fill: #bf8700; }
.futures { fill: #1a7f37; } .elsewise { fill: #a475f9; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .small { fill: #9198a1; } .whisker { stroke: #e6edf3; }
  .ours { fill: #4493f8; } .bare { fill: #656c76; } .pools { fill: #d29922; }
  .futures { fill: #3fb950; } .elsewise { fill: #ab7df8; }
}`

var plotClasses = []struct {
	class class
	style string
}{
	{ours, "ours"},
	{bare, "bare"},
	{pools, "pools"},
	{futures, "futures"},
	{elsewise, "elsewise"},
	{limits, "bare"},
	{processes, "pools"},
	{nodeThreads, "elsewise"},
	{rpcs, "futures"},
	{taskQueues, "pools"},
}

// plot writes a bar chart of each row to dir.
func (rep *report) plot(dir string, rows []row) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i, r := range rows {
		file := filepath.Join(dir, r.name+".svg")
		if err := os.WriteFile(file, []byte(r.svg(rep.Rows[i].Runs)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// svg draws a bar for the median of each contestant that was measured, best first,
// with a whisker from the smallest to the largest value.
func (r row) svg(runs []run) string {
	type bar struct {
		contestant
		spread
	}
	var bars []bar
	for _, c := range r.contestants {
		if s, ok := measuredBy(runs, c.name, run.value); ok {
			bars = append(bars, bar{c, s})
		}
	}
	slices.SortStableFunc(bars, func(a, b bar) int {
		if (a.Median < b.Median) != r.moreIsGood {
			return -1
		}
		return 1
	})
	end := 0.0 // of the scale, which is for Go
	for _, b := range bars {
		if b.class != elsewise {
			end = max(end, b.Max)
		}
	}
	if ref, ok := measuredBy(runs, r.reference(runs), run.value); ok && !r.moreIsGood && ref.Median > 0 {
		end = min(end, cutAt*ref.Median)
	}
	x := func(v float64) float64 {
		if end == 0 {
			return plotLabels
		}
		return plotLabels + min(v/end, 1)*plotBarRoom
	}

	var b strings.Builder
	height := plotTop + len(bars)*plotLine + plotLegend
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`, plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, "\n<title>%s</title>\n<style>%s\n</style>\n", escape(r.title), plotStyle)
	direction := "less is better"
	if r.moreIsGood {
		direction = "more is better"
	}
	text(&b, 10, 22, "title", "start", r.name+": "+r.unit+", "+direction)
	text(&b, 10, 42, "small", "start", r.title)
	for i, bar := range bars {
		y := float64(plotTop + i*plotLine)
		middle := y + plotBar/2
		text(&b, plotLabels-8, middle+4, "", "end", bar.name)
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%.1f" width="%.1f" height="%d" rx="2"/>`+"\n",
			styleOf(bar.class), plotLabels, y, max(1, x(bar.Median)-plotLabels), plotBar)
		value := short(bar.Median)
		if bar.Median > end {
			value += " (cut)"
		} else {
			fmt.Fprintf(&b, `<path class="whisker" fill="none" d="M%.1f %.1fV%.1fM%.1f %.1fH%.1fM%.1f %.1fV%.1f"/>`+"\n",
				x(bar.Min), middle-4, middle+4, x(bar.Min), middle, x(bar.Max), x(bar.Max), middle-4, middle+4)
		}
		text(&b, max(x(bar.Median), min(x(bar.Max), plotLabels+plotBarRoom))+8, middle+4, "", "start", value)
	}
	at := 10.0
	for _, c := range plotClasses {
		if !slices.ContainsFunc(bars, func(b bar) bool { return b.class == c.class }) {
			continue
		}
		y := float64(height - 12)
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="10" height="10"/>`+"\n", c.style, at, y-9)
		text(&b, at+15, y, "small", "start", string(c.class))
		at += 40 + 6.2*float64(len(c.class))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func styleOf(c class) string {
	for _, p := range plotClasses {
		if p.class == c {
			return p.style
		}
	}
	return "bare"
}

func text(b *strings.Builder, x, y float64, style, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, style, anchor, escape(s))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
