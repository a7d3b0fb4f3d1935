package worker

import (
	"context"
	"time"
)

// NewCallContext returns the context of an item, and what ends it.
func NewCallContext(deadline time.Time) (ctx context.Context, finish func(deadline bool, cause error)) {
	c := newCallContext(deadline)
	return c, c.finish
}
