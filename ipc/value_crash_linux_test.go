package ipc_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
	"example.com/futures/ipc"
)

// crashing are the objects that processes die over.
type crashing struct {
	Long  *ipc.Value[checked]
	Word  *ipc.Value[int]
	Array *ipc.Array[int]
	Pairs *ipc.Array[complex128]
}

func newCrashing(t *testing.T) crashing {
	return crashing{newValue(t, newChecked(1)), newValue(t, 1), newArray(t, 1, 1, 1), newArray[complex128](t, 1-1i, 1-1i)}
}

// crashOps is what a process does when it dies: it makes 2 of 1.
var crashOps = map[string]func(crashing) error{
	"long/Store": func(c crashing) error { c.Long.Store(newChecked(2)); return nil },
	"long/CompareAndSwap": func(c crashing) error {
		c.Long.CompareAndSwap(newChecked(1), newChecked(2))
		return nil
	},
	"long/Update": func(c crashing) error {
		return c.Long.Update(context.Background(), func(v *checked) { v.fill(2) })
	},
	"word/Store":          func(c crashing) error { c.Word.Store(2); return nil },
	"word/CompareAndSwap": func(c crashing) error { c.Word.CompareAndSwap(1, 2); return nil },
	"word/Update": func(c crashing) error {
		return c.Word.Update(context.Background(), func(n *int) { *n = 2 })
	},
	"array/Update": func(c crashing) error {
		return c.Array.Update(context.Background(), func(s []int) {
			s[0] = 2
			segment.At("array: half")
			s[1] = 2
		})
	},
	"pairs/Set": func(c crashing) error { c.Pairs.Set(1, 2-2i); return nil },
}

func init() {
	role("crash", func(c crashing, args []string) { must(crashOps[args[0]](c)) })
	role("crash-any", func(c crashing, _ []string) {
		say("ready")
		for i := uint64(os.Getpid()) << 32; ; i++ {
			if i%16 == 0 { // these take long
				c.Long.Store(newChecked(i))
				must(c.Long.Update(bg, func(v *checked) { v.fill(v[0] + 1) }))
			}
			must(c.Word.Update(bg, func(n *int) { *n++ }))
			ipc.Add(c.Word, 1)
			err := c.Array.Update(bg, func(s []int) {
				for range 100 {
					s[0]++
					s[1]++
					s[2]++
				}
			})
			if err != nil && !errors.Is(err, ipc.ErrOwnerDied) {
				must(err)
			}
			c.Pairs.Set(int(i%2), complex(float64(i), -float64(i)))
		}
	})
}

// A process dies at each step of each operation. What it leaves is the old value or the new
// one, whichever the table says, and everything works.
func TestValueAndArrayCrashes(t *testing.T) {
	const (
		before = 1
		after  = 2
		half   = 3
	)
	for _, row := range []struct {
		op, step string
		leaves   int
	}{
		{"long/Store", "store: locked", before},
		{"long/Store", "store: half", before},
		{"long/Store", "store: written", before},
		{"long/Store", "store: published", after},
		{"long/Store", "unlock: let go", after},
		{"long/CompareAndSwap", "store: locked", before},
		{"long/CompareAndSwap", "store: half", before},
		{"long/CompareAndSwap", "store: written", before},
		{"long/CompareAndSwap", "store: published", after},
		{"long/CompareAndSwap", "unlock: let go", after},
		{"long/Update", "update: locked", before},
		{"long/Update", "update: ran", before},
		{"long/Update", "store: locked", before},
		{"long/Update", "store: half", before},
		{"long/Update", "store: written", before},
		{"long/Update", "store: published", after},
		{"long/Update", "unlock: let go", after},
		{"long/Update", "update: done", after},
		{"long/Update", "update: let go", after},
		{"word/Store", "store: published", after},
		{"word/CompareAndSwap", "store: published", after},
		{"word/Update", "update: locked", before},
		{"word/Update", "update: ran", before},
		{"word/Update", "update: done", after},
		{"word/Update", "update: let go", after},
		{"array/Update", "update: locked", before},
		{"array/Update", "array: half", half},
		{"array/Update", "update: ran", after},
		{"array/Update", "update: let go", after},
		{"pairs/Set", "set: locked", before},
		{"pairs/Set", "set: noted", before},
		{"pairs/Set", "set: counts", after},
		{"pairs/Set", "set: half", after},
		{"pairs/Set", "set: written", after},
		{"pairs/Set", "set: done", after},
		{"pairs/Set", "unlock: let go", after},
	} {
		t.Run(row.op+"/"+row.step, func(t *testing.T) {
			c := newCrashing(t)
			start(t, "crash", c, row.step, row.op).killed()

			ctx := proctest.Within(t)
			switch row.op[:4] {
			case "long":
				require.Equal(t, newChecked(uint64(row.leaves)), c.Long.Load())
				require.True(t, c.Long.CompareAndSwap(newChecked(uint64(row.leaves)), newChecked(7)))
				require.NoError(t, c.Long.Update(ctx, func(v *checked) { v.fill(v[0] + 1) }))
				require.Equal(t, newChecked(8), c.Long.Load())
			case "word":
				require.Equal(t, row.leaves, c.Word.Load())
				require.NoError(t, c.Word.Update(ctx, func(n *int) { *n += 5 }))
				require.Equal(t, row.leaves+5, c.Word.Load())
			case "arra":
				held := row.step != "update: let go"
				if err := c.Array.Update(ctx, func([]int) { require.False(t, held) }); held {
					require.ErrorIs(t, err, ipc.ErrOwnerDied)
				} else {
					require.NoError(t, err)
				}
				want := map[int][]int{before: {1, 1, 1}, half: {2, 1, 1}, after: {2, 2, 1}}[row.leaves]
				require.NoError(t, c.Array.Update(ctx, func(s []int) { require.Equal(t, want, s) }))
			case "pair":
				x := float64(row.leaves)
				require.Equal(t, complex(x, -x), c.Pairs.At(1))
				c.Pairs.Set(1, 7-7i)
				require.Equal(t, 7-7i, c.Pairs.At(1))
			}
		})
	}
}

// The undertaker dies as well.
func TestValueAndArrayCrashOverTheDead(t *testing.T) {
	for _, op := range []struct{ name, dies string }{
		{"array/Update", "array: half"},
		{"long/Update", "store: half"},
		{"pairs/Set", "set: half"},
	} {
		for _, step := range []string{"bury: begun", "bury: let go", "bury: done", "update: told"} {
			if step == "update: told" && op.name != "array/Update" {
				continue
			}
			t.Run(op.name+"/"+step, func(t *testing.T) {
				c := newCrashing(t)
				start(t, "crash", c, op.dies, op.name).killed()
				start(t, "crash", c, step, op.name).killed()
				ctx := proctest.Within(t)
				switch op.name {
				case "array/Update":
					if step != "update: told" {
						require.ErrorIs(t, c.Array.Update(ctx, func([]int) {}), ipc.ErrOwnerDied)
					}
					require.NoError(t, c.Array.Update(ctx, func([]int) {}))
				case "long/Update":
					require.Equal(t, newChecked(1), c.Long.Load())
					require.NoError(t, c.Long.Update(ctx, func(v *checked) { v.fill(2) }))
					require.Equal(t, newChecked(2), c.Long.Load())
				case "pairs/Set":
					require.Equal(t, 2-2i, c.Pairs.At(1))
				}
			})
		}
	}
}

// kills is how many processes are killed at random: FUTURES_KILLS, or few.
func kills(t *testing.T) int {
	s := os.Getenv("FUTURES_KILLS")
	if s == "" {
		return 300
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, "FUTURES_KILLS")
	return n
}

// Processes are killed at any moment. Values stay whole, and every lock can be had.
func TestValueAndArrayRandomKills(t *testing.T) {
	c := newCrashing(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(kills(t))*time.Second)
	defer cancel()
	last, died := 0, 0
	for range kills(t) {
		p := start(t, "crash-any", c, "")
		p.hear("ready")
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond) // any moment
		require.NoError(t, p.cmd.Process.Kill())

		// The process may still be dying.
		for range 2 {
			got := c.Long.Load()
			require.True(t, got.whole())
			require.NoError(t, c.Long.Update(ctx, func(v *checked) {
				require.True(t, v.whole())
				v.fill(v[0] + 1)
			}))
			c.Long.Store(newChecked(3))
			require.NoError(t, c.Word.Update(ctx, func(n *int) { *n++ }))
			now := ipc.Add(c.Word, 1)
			require.GreaterOrEqual(t, now, last+2)
			last = now
			for i := range 2 {
				x := c.Pairs.At(i)
				require.Equal(t, real(x), -imag(x))
			}
			err := c.Array.Update(ctx, func(s []int) { s[0]++; s[1]++; s[2]++ })
			if err != nil {
				require.ErrorIs(t, err, ipc.ErrOwnerDied)
				died++
				require.NoError(t, c.Array.Update(ctx, func(s []int) { s[1], s[2] = s[0], s[0] }))
			}
			require.NoError(t, c.Array.Update(ctx, func(s []int) { require.Equal(t, []int{s[0], s[0], s[0]}, s) }))
			_ = p.wait() // it was killed
		}
	}
	t.Logf("%d owners of the array died over it", died)
}
