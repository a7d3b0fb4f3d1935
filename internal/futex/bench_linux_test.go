package futex_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/futex"
)

// Two processes take turns, and each sleeps while it is not its own: bare in the system
// call, which the scheduler does not hear of; on a thread of the goroutine's own; and
// through a poller, which watches so many words in this process, and one in the other.
func BenchmarkPingPong(b *testing.B) {
	for _, tc := range []struct {
		how     string
		watched int
	}{{"bare", 0}, {"direct", 0}, {"poller", 1}, {"poller", 2}, {"poller", 16}, {"poller", 127}} {
		b.Run(fmt.Sprintf("%s/watched=%d", tc.how, tc.watched), func(b *testing.B) {
			defer futex.SetDirect(8)()
			w, cmd := shared(b, "pong", tc.how)
			if tc.how == "bare" {
				defer runtime.UnlockOSThread()
			}
			sleep := newSleep(tc.how)
			wake := sleepers(b, tc.watched-1)
			b.ReportAllocs()
			for b.Loop() {
				ping(&w[0], sleep)
			}
			b.StopTimer()
			wake()
			w[0].Store(gone)
			futex.Wake(&w[0], 1)
			require.NoError(b, cmd.Wait())
			awaitNobody(b)
		})
	}
}

// sleepers has n goroutines asleep, until the function that it returns is called.
func sleepers(b *testing.B, n int) (wake func()) {
	b.Helper()
	others := make(words, max(n, 0))
	var wg sync.WaitGroup
	for i := range others {
		wg.Go(func() {
			for others[i].Load() == 0 {
				futex.Wait(&others[i], 0)
			}
		})
	}
	await(b, func(s futex.State) bool { return s.Direct+s.Entries == len(others) && s.Awake == 0 })
	return func() {
		for i := range others {
			others[i].Store(1)
			futex.Wake(&others[i], 1)
		}
		wg.Wait()
	}
}

// Nobody sleeps.
func BenchmarkWake(b *testing.B) {
	var word atomic.Uint32
	b.ReportAllocs()
	for b.Loop() {
		futex.Wake(&word, 1)
	}
}
