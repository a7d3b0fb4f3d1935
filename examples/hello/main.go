// Hello is the program of the README: one task, run on worker processes.
//
//	go run ./examples/hello
package main

import (
	"context"
	"fmt"
	"log"
	"math/big"
	"slices"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

var isPrime = executor.NewTask("isPrime", func(ctx context.Context, n int64) (bool, error) {
	return big.NewInt(n).ProbablyPrime(0), nil // exact below 2^64
})

func main() {
	worker.Main() // a worker process stays in here

	ex, err := processpool.New(processpool.Config{}) // or threadpool.New(threadpool.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer ex.Close()

	ctx := context.Background()
	prime, err := executor.Submit(ctx, ex, isPrime, 112272535095293).Result(ctx)
	fmt.Println("112272535095293 is prime:", prime, err)

	numbers := []int64{115797848077099, 1099726899285419}
	for prime, err := range executor.Map(ctx, ex, isPrime, slices.Values(numbers)) {
		fmt.Println("and of the others:", prime, err)
	}
}
