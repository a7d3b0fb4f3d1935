package futex_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/internal/futex"
	"example.com/futures/internal/proctest"
)

func TestWaitReturnsAtOnceIfTheWordIsAnother(t *testing.T) {
	for _, direct := range []int{8, 0} {
		t.Run(fmt.Sprintf("direct=%d", direct), func(t *testing.T) {
			defer futex.SetDirect(direct)()
			var word atomic.Uint32
			futex.Wait(&word, 1)
			require.Zero(t, futex.Now())
		})
	}
}

func TestWakeCountsThreads(t *testing.T) {
	const sleepers = 5
	for _, tc := range []struct {
		name    string
		n, want int
	}{
		{"none", 0, 0},
		{"one", 1, 1},
		{"three", 3, 3},
		{"more", 9, sleepers},
		{"negative", -1, sleepers},
		{"all", math.MaxInt32, sleepers},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var word atomic.Uint32
			var wg sync.WaitGroup
			for range sleepers {
				wg.Go(func() { futex.Wait(&word, 0) })
			}
			// They count as asleep a moment before they are, and a wake of none tells nothing.
			await(t, func(s futex.State) bool { return s.Direct == sleepers && asleep(t) >= sleepers })
			require.Equal(t, tc.want, futex.Wake(&word, tc.n))
			word.Store(1)
			futex.Wake(&word, -1)
			wg.Wait()
			require.Zero(t, futex.Wake(&word, -1))
		})
	}
	awaitNobody(t)
}

// asleep returns how many threads of this process are in futex(FUTEX_WAIT), shared.
func asleep(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	n := 0
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/syscall")
		var call, word, op int
		if k, _ := fmt.Sscanf(string(b), "%v 0x%x 0x%x", &call, &word, &op); k == 3 && call == unix.SYS_FUTEX && op == 0 {
			n++
		}
	}
	return n
}

func TestPingPongBetweenProcesses(t *testing.T) {
	for _, how := range []string{"direct", "poller"} {
		t.Run(how, func(t *testing.T) {
			defer futex.SetDirect(8)()
			w, cmd := shared(t, "pong", how)
			sleep := newSleep(how)
			for range 2000 {
				ping(&w[0], sleep)
			}
			w[0].Store(gone)
			futex.Wake(&w[0], 1)
			require.NoError(t, cmd.Wait())
		})
	}
	awaitNobody(t)
}

// The threads of a process are counted that nothing else has happened in.
func TestManySleepersAndFewThreads(t *testing.T) {
	cmd := proctest.Self(proctest.Within(t), "many")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	t.Logf("%s", out)
}

// many has 1,000 goroutines wait on as many words, and wakes each.
func many() {
	const n = 1000
	w := make(words, n)
	var returns atomic.Int32
	woken := make(chan int)
	for i := range w {
		go func() {
			for w[i].Load() == 0 {
				futex.Wait(&w[i], 0)
				returns.Add(1)
			}
			woken <- i
		}()
	}
	for s := futex.Now(); s.Direct+s.Entries < n || s.Awake > 0; s = futex.Now() {
		runtime.Gosched()
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil || len(tasks) >= 30 {
		fatal("threads", fmt.Sprint(len(tasks), err))
	}
	fmt.Printf("%+v on %d threads", futex.Now(), len(tasks))
	for _, i := range rand.Perm(n) {
		w[i].Store(1)
		futex.Wake(&w[i], 1)
		if got := <-woken; got != i {
			fatal("woken", fmt.Sprint(got, " instead of ", i))
		}
	}
	if returns.Load() > n+n/10 { // a signal may cut short a few
		fatal("returns", returns.Load())
	}
	for futex.Now() != (futex.State{}) {
		runtime.Gosched()
	}
	fmt.Printf(", %d returns", returns.Load())
}

func TestAWakeOfOneReachesAllWhoWaitForTheSame(t *testing.T) {
	defer futex.SetDirect(0)()
	var word atomic.Uint32
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { futex.Wait(&word, 0) })
	}
	await(t, func(s futex.State) bool { return s.Entries == 1 && s.Awake == 0 })
	require.Equal(t, 1, futex.Now().Pollers)
	word.Store(1)
	futex.Wake(&word, 1)
	// One who had not waited yet finds the word changed.
	wg.Wait()
	awaitNobody(t)
}

// Two entries of one poller may be for one word, of which one has changed already: nobody
// has been woken when the next one comes to wait.
func TestOneWordWithTwoValues(t *testing.T) {
	defer futex.SetDirect(0)()
	var word atomic.Uint32
	wait := func(old uint32) chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for word.Load() == old {
				futex.Wait(&word, old)
			}
		}()
		return done
	}
	sleeps := func(s futex.State) bool { return s.Entries == 1 && s.Awake == 0 }
	for i := uint32(0); i < 100; i += 2 {
		first := wait(i)
		await(t, sleeps)
		word.Store(i + 1)
		second := wait(i + 1) // the poller looks, as it takes that in
		<-first
		await(t, sleeps)
		word.Store(i + 2)
		futex.Wake(&word, 1)
		<-second
		awaitNobody(t)
	}
}

// A word may be unmapped once Wait has returned, whoever else the poller watches for. A
// poller that still looked at it would crash the program, or have the system call fail.
func TestAWordGoesWhenItsWaitHasReturned(t *testing.T) {
	defer futex.SetDirect(0)()
	errs := futex.WatchWaitv()
	f := memory(t)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			for range 200 {
				w := mapped(int(f.Fd()))
				w[i].Store(0)
				another := mapped(int(f.Fd()))
				var waker sync.WaitGroup
				waker.Go(func() {
					for range rand.IntN(50) {
						runtime.Gosched()
					}
					another[i].Store(1)
					futex.Wake(&another[i], -1)
				})
				futex.Wait(&w[i], 0)
				if err := w.unmap(); err != nil {
					t.Error(err)
				}
				waker.Wait()
				if err := another.unmap(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	awaitNobody(t)
	require.Empty(t, errs())
}

func TestWithoutWaitvEachHasAThread(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
		t.Run(errno.Error(), func(t *testing.T) {
			defer futex.RefuseWaitv(errno)()
			const n = 50
			w := make(words, n)
			var wg sync.WaitGroup
			for i := range w {
				wg.Go(func() {
					for w[i].Load() == 0 {
						futex.Wait(&w[i], 0)
					}
				})
			}
			await(t, func(s futex.State) bool { return s == futex.State{Direct: n} })
			for i := range w {
				w[i].Store(1)
				futex.Wake(&w[i], 1)
			}
			wg.Wait()
			awaitNobody(t)
		})
	}
}

// A failure that is none of these has everybody look again, and nobody hangs.
func TestAFailingWaitvHasThemLookAgain(t *testing.T) {
	restore := futex.RefuseWaitv(unix.ENOMEM)
	defer restore()
	defer futex.SetDirect(0)()
	var word atomic.Uint32
	futex.Wait(&word, 0)
	awaitNobody(t)
}

// The hammer: takers in two processes, each with a list of semaphores to take from, one
// after the other, and givers who give exactly what is on the lists, in any order. A
// lost wake-up leaves a taker waiting.
const (
	semaphores = 40
	takers     = 24 // in each process
	takes      = 210
)

// list returns the semaphores that a taker takes from.
func list(taker int) []int {
	r := rand.New(rand.NewPCG(uint64(taker), 1))
	l := make([]int, takes)
	for i := range l {
		l[i] = r.IntN(semaphores)
	}
	return l
}

// take has the takers from begin to end take what is on their lists.
func take(sem words, begin, end int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i := begin; i < end; i++ {
		wg.Go(func() {
			for _, s := range list(i) {
				for {
					v := sem[s].Load()
					if v == 0 {
						futex.Wait(&sem[s], 0)
					} else if sem[s].CompareAndSwap(v, v-1) {
						break
					}
				}
			}
		})
	}
	return &wg
}

func TestNoWakeUpIsLost(t *testing.T) {
	for _, direct := range []int{8, 0, math.MaxInt32} {
		t.Run(fmt.Sprintf("direct=%d", direct), func(t *testing.T) {
			defer futex.SetDirect(direct)()
			w, cmd := shared(t, "take", strconv.Itoa(direct))
			sem := w[1 : 1+semaphores]
			var all []int
			for i := range 2 * takers {
				all = append(all, list(i)...)
			}
			rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			wg := take(sem, 0, takers)
			const givers = 3
			for g := range givers {
				wg.Go(func() {
					for i := g; i < len(all); i += givers {
						sem[all[i]].Add(1)
						futex.Wake(&sem[all[i]], 1)
						if i%16 == 0 {
							runtime.Gosched()
						}
					}
				})
			}
			wg.Wait()
			require.NoError(t, cmd.Wait())
			for i := range sem {
				require.Zero(t, sem[i].Load())
			}
			awaitNobody(t)
		})
	}
}
