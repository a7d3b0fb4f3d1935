package executor

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/promise"
)

// A heardContext counts who listens for its end.
type heardContext struct {
	context.Context
	meanwhile func() // what happens just as somebody begins to listen
	listeners int
}

// Done is a channel of its own, without which package context would not call AfterFunc.
func (c *heardContext) Done() <-chan struct{} { return make(chan struct{}) }

func (c *heardContext) AfterFunc(func()) func() bool {
	c.meanwhile()
	c.listeners++
	return func() bool {
		c.listeners--
		return true
	}
}

// TestNothingListensForADoneCall has a call end before, while and after it begins to
// listen for the end of its caller's context.
func TestNothingListensForADoneCall(t *testing.T) {
	for _, at := range []string{"before", "while", "after", "never"} {
		t.Run(at, func(t *testing.T) {
			var core promise.Core
			ctx := &heardContext{Context: t.Context()}
			h := &head{ctx: ctx}
			now := func(moment string) {
				if at == moment {
					require.True(t, core.Begin())
					core.Publish()
					h.leave()
				}
			}
			ctx.meanwhile = func() { now("while") }

			now("before")
			h.listen(&core, func() {})
			now("after")
			want := 0
			if at == "never" {
				want = 1
			}
			require.Equal(t, want, ctx.listeners)
		})
	}
}
