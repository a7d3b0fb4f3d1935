package ring_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/ring"
)

func TestClaims(t *testing.T) {
	for _, tc := range []struct {
		name string
		seq  uint64
	}{
		{"first", 0},
		{"last slot", ring.Slots - 1},
		{"second round", ring.Slots + 5},
		{"32 bits", 1<<32 + 7},
		{"many bits", 1<<62 - 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := ring.NewClaims()
			require.False(t, m.Take(tc.seq), "it was never offered")
			require.False(t, m.Withdraw(tc.seq))
			require.False(t, m.Taken(tc.seq))

			m.Offer(tc.seq)
			require.False(t, m.Taken(tc.seq))
			require.True(t, m.Take(tc.seq))
			require.True(t, m.Taken(tc.seq))
			require.False(t, m.Take(tc.seq), "twice")
			require.False(t, m.Withdraw(tc.seq))

			m.Offer(tc.seq)
			require.True(t, m.Withdraw(tc.seq))
			require.False(t, m.Withdraw(tc.seq), "twice")
			require.False(t, m.Take(tc.seq))
			require.False(t, m.Taken(tc.seq))
		})
	}
}

// What was left of one call in a slot says nothing of the next one there, and who still
// asks for the earlier one gets a no.
func TestClaimsOfASlotThatIsUsedAgain(t *testing.T) {
	const old = 3
	for _, tc := range []struct {
		name  string
		leave func(m *ring.Memory)
	}{
		{"offered", func(*ring.Memory) {}},
		{"taken", func(m *ring.Memory) { m.Take(old); m.Begin(old, 6) }},
		{"withdrawn", func(m *ring.Memory) { m.Withdraw(old) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, next := range []uint64{old + ring.Slots, old + 1<<32, old + ring.Slots<<40} {
				m := ring.NewClaims()
				m.Offer(old)
				tc.leave(m)
				require.False(t, m.Take(next), "it is not offered yet")
				require.False(t, m.Taken(next))
				m.Offer(next)
				require.False(t, m.Taken(old))
				require.False(t, m.Taken(next))
				require.Zero(t, m.Begun(next))
				require.False(t, m.Take(old))
				require.False(t, m.Withdraw(old))
				require.True(t, m.Take(next))
				require.True(t, m.Taken(next))
			}
		})
	}
}

func TestSlotsAreApart(t *testing.T) {
	m := ring.NewClaims()
	for seq := range uint64(ring.Slots) {
		m.Offer(seq)
		if seq%2 == 0 {
			require.True(t, m.Take(seq))
			m.Begin(seq, int(seq))
		}
	}
	for seq := range uint64(ring.Slots) {
		require.Equal(t, seq%2 == 0, m.Taken(seq))
		require.Equal(t, seq%2 == 1, m.Withdraw(seq))
		if seq%2 == 0 {
			require.Equal(t, int(seq)+1, m.Begun(seq))
		} else {
			require.Zero(t, m.Begun(seq))
		}
	}
}

func TestBegun(t *testing.T) {
	for _, tc := range []struct {
		name string
		seq  uint64
	}{
		{"first", 0},
		{"last of 32 bits", 1<<32 - 1},
		{"first after 32 bits", 1 << 32},
		{"last of all", 1<<64 - 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := ring.NewClaims()
			require.Zero(t, m.Begun(tc.seq))
			m.Offer(tc.seq)
			require.Zero(t, m.Begun(tc.seq))
			for i := range 3 {
				m.Begin(tc.seq, i)
				require.Equal(t, i+1, m.Begun(tc.seq))
			}
			m.Begin(tc.seq, 1<<31-2)
			require.Equal(t, 1<<31-1, m.Begun(tc.seq))
			require.Zero(t, m.Begun(tc.seq+ring.Slots), "it is of another call in the slot")

			// As many calls later as there are numbers in what is noted of each.
			m.Offer(tc.seq + 1<<32)
			require.Zero(t, m.Begun(tc.seq+1<<32))
		})
	}
}

// The worker takes calls up while the parent takes them back: one of them has each.
func TestTakeAgainstWithdraw(t *testing.T) {
	const rounds = 200
	m := ring.NewClaims()
	var took, back [ring.Slots]bool
	withdrawn := 0
	for round := range uint64(rounds) {
		first := round * ring.Slots
		for seq := first; seq < first+ring.Slots; seq++ {
			m.Offer(seq)
		}
		// Both go the same way, so that they meet again and again.
		begin := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() {
			<-begin
			for i := range took {
				if took[i] = m.Take(first + uint64(i)); took[i] {
					m.Begin(first+uint64(i), 0)
				}
			}
		})
		both.Go(func() {
			<-begin
			for i := range back {
				back[i] = m.Withdraw(first + uint64(i))
			}
		})
		close(begin)
		both.Wait()
		for i := range took {
			seq := first + uint64(i)
			if took[i] == back[i] || took[i] != m.Taken(seq) || took[i] != (m.Begun(seq) == 1) {
				t.Fatalf("call %d: taken up is %v, taken back is %v, Taken = %v, Begun = %d", seq, took[i], back[i], m.Taken(seq), m.Begun(seq))
			}
			if back[i] {
				withdrawn++
			}
		}
	}
	t.Logf("%d of %d were taken back", withdrawn, rounds*ring.Slots)
}
