// Nomain is a program that makes a pool with local workers and never calls worker.Main.
package main

import (
	"context"
	"fmt"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
)

func main() {
	_, err := embed.New(context.Background(), clusterpool.Config{}, 1)
	fmt.Println(err)
}
