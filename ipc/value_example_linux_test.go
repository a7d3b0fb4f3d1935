package ipc_test

import (
	"context"
	"fmt"
	"log"

	"example.com/futures/ipc"
)

// Best is what several workers look for together.
type Best struct {
	Score float64
	Seed  uint64
	Name  [16]byte
}

func ExampleNewValue() {
	best, err := ipc.NewValue(Best{})
	if err != nil {
		log.Fatal(err)
	}
	defer best.Close()

	// best can be an argument of a task; there it is the same variable.
	offer := func(b Best) error {
		return best.Update(context.Background(), func(so *Best) {
			if b.Score > so.Score {
				*so = b
			}
		})
	}
	for i, score := range []float64{0.5, 0.9, 0.7} {
		if err := offer(Best{Score: score, Seed: uint64(i)}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(best.Load().Score, best.Load().Seed)

	_, err = ipc.NewValue(struct{ Name string }{"no pointers"})
	fmt.Println(err)
	// Output:
	// 0.9 1
	// ipc: new Value: Name of struct { Name string } has type string, which has no fixed layout: use [N]byte
}

func ExampleAdd() {
	done, err := ipc.NewValue(0)
	if err != nil {
		log.Fatal(err)
	}
	defer done.Close()
	fmt.Println(ipc.Add(done, 3), ipc.Add(done, -1))
	// Output: 3 2
}

func ExampleNewArray() {
	histogram, err := ipc.NewArray[int](4)
	if err != nil {
		log.Fatal(err)
	}
	defer histogram.Close()
	histogram.Set(1, 7)
	err = histogram.Update(context.Background(), func(bins []int) {
		bins[1]++
		bins[2] = 2 * bins[1]
	})
	fmt.Println(histogram.At(1), histogram.At(2), histogram.Len(), err)
	// Output: 8 16 4 <nil>
}
