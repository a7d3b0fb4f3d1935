package main

import (
	"context"
	"fmt"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
)

// The names of ours.
const (
	oursValue  = "ipc.Value"
	oursAdd    = "ipc.Add"
	oursArray  = "ipc.Array"
	oursReturn = "ipc.Array, also the result"
	oursNumber = "a number, no array"
)

// A big value is one that no instruction loads.
type big struct{ Numbers [16]int64 }

const (
	arrayLength  = 1000
	arrayElement = 7
	largeLength  = 64 << 20 / 8
)

// What processes do to a value or an array together.
var (
	updatingValue = inCompany("value update", func(v *ipc.Value[int64], n int) {
		for range n {
			check(v.Update(bg, func(x *int64) { *x++ }))
		}
	})
	adding = inCompany("value add", func(v *ipc.Value[int64], n int) {
		for range n {
			ipc.Add(v, 1)
		}
	})
	updatingArray = inCompany("array update", func(a *ipc.Array[int64], n int) {
		for range n {
			check(a.Update(bg, func(x []int64) { x[arrayElement]++ }))
		}
	})
	loading = inRoles("value struct", func(v *ipc.Value[big], n int) {
		for range n {
			got := v.Load()
			if got.Numbers[0] != got.Numbers[len(got.Numbers)-1] {
				panic(fmt.Sprint("half of a value: ", got))
			}
		}
	}, func(v *ipc.Value[big], n int) {
		var x big
		for i := range n {
			for j := range x.Numbers {
				x.Numbers[j] = int64(i)
			}
			v.Store(x)
		}
	})
)

func newCounter() (*ipc.Value[int64], error)  { return ipc.NewValue[int64](0) }
func newBig() (*ipc.Value[big], error)        { return ipc.NewValue(big{}) }
func newElements() (*ipc.Array[int64], error) { return ipc.NewArray[int64](arrayLength) }

func countOf(v *ipc.Value[int64]) int   { return int(v.Load()) }
func elementOf(a *ipc.Array[int64]) int { return int(a.At(arrayElement)) }

// A touch is one element of an array.
type touch struct {
	Array   *ipc.Array[int64]
	Element int
}

func (t touch) do() { t.Array.Set(t.Element%largeLength, int64(t.Element)) }

func (t touch) done(in *ipc.Array[int64]) error {
	if got := in.At(t.Element % largeLength); got != int64(t.Element) {
		return fmt.Errorf("element %d is %d", t.Element, got)
	}
	return nil
}

// What a call does with a large array.
var (
	touchTask = executor.NewTask("bench.touch", func(_ context.Context, t touch) (int, error) {
		t.do()
		return t.Element + 1, nil
	})
	returnTask = executor.NewTask("bench.touch and return", func(_ context.Context, t touch) (*ipc.Array[int64], error) {
		t.do()
		return t.Array, nil
	})
)

// inPool is a call at a time to a worker process, with an array.
func inPool(call func(p *processpool.Pool, t touch) int) opener {
	return func(w remote.Work) remote.Crew {
		p := must(processpool.New(processpool.Config{Workers: w.Workers}))
		a := must(ipc.NewArray[int64](largeLength))
		return remote.Crew{
			Call:   func(arg int) int { return call(p, touch{a, arg}) },
			Attend: attending(p),
			Close:  func() { check(p.Close()); check(a.Close()) },
		}
	}
}

func touched(p *processpool.Pool, t touch) int {
	n := result(executor.Submit(bg, p, touchTask, t))
	check(t.done(t.Array))
	return n
}

func returned(p *processpool.Pool, t touch) int {
	back := must(executor.Submit(bg, p, returnTask, t).Result(bg))
	check(t.done(back))
	check(back.Close())
	return t.Element + 1
}

// memoryRows have memory that processes share.
func memoryRows(f foreign) []row {
	two, one := together(2), pingPong(0)

	update := rateRow("ipc-value-update", "a number is counted up under its lock, by two processes at the same time, in all",
		[]contestant{updatingValue.contestant(oursValue, two, newCounter, countOf)}, ipcLimit(two, bareLock), f.ipcPeers(two, mpValue))
	update.goals = []goal{onMachine(oursValue, 3e6, "3,000,000/s"), timesOf(oursValue, 3.3, mpValue), beside(oursValue, bareLock)}

	add := rateRow("ipc-value-add", "a number is counted up without a lock, by two processes at the same time, in all",
		[]contestant{adding.contestant(oursAdd, two, newCounter, countOf)}, ipcLimit(two, bareAdd), f.ipcPeers(two, mpValue))
	add.goals = []goal{onMachine(oursAdd, 40e6, "40,000,000/s"), timesOf(oursAdd, 0.7, bareAdd), beside(oursAdd, mpValue)}

	whole := rateRow("ipc-value-struct", "128 bytes: one process loads, another stores at the same time, in all",
		[]contestant{loading.contestant(oursValue, two, newBig, nil)}, f.ipcPeers(two, mpStruct))
	whole.goals = []goal{beside(oursValue, mpStruct)}

	array := rateRow("ipc-array-update", "an element of an array is counted up under its lock, by two processes at the same time, in all",
		[]contestant{updatingArray.contestant(oursArray, two, newElements, elementOf)}, ipcLimit(two, bareLock), f.ipcPeers(two, mpArray))
	array.goals = []goal{onMachine(oursArray, 3e6, "3,000,000/s"), timesOf(oursArray, 6, mpArray), beside(oursArray, bareLock)}

	large := turnRow("ipc-array-64MiB", "a call gets an array of 64 MiB as an argument and writes one element; a pool of 1",
		[]contestant{
			remotely(oursArray, ours, one, inPool(touched)),
			remotely(oursReturn, ours, one, inPool(returned)),
			remotely(oursNumber, ours, one, spawned),
		}, f.ipcPeers(one, mpShared))
	large.goals = []goal{
		{judged: []string{oursArray}, says: "≤ 100 µs", most: 100, orientation: true},
		fasterBy(oursArray, 2, mpShared), beside(oursArray, oursNumber),
	}
	return []row{update, add, whole, array, large}
}
