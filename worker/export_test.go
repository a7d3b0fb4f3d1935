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

// Contexts returns what makes one context of an item after another, without a deadline.
func Contexts() func() (ctx context.Context, finish func(deadline bool, cause error)) {
	m := new(contextMaker)
	return func() (context.Context, func(bool, error)) {
		c := m.next(time.Time{})
		return c, c.finish
	}
}
