package clusterpool

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// What a consumer's message tells of itself, in the form of old and of new servers.
func TestParseDelivery(t *testing.T) {
	stored := time.Unix(1700000000, 123456789)
	want := delivery{times: 2, seq: 1234, stored: stored, pending: 17}
	for name, reply := range map[string]string{
		"9 tokens":                        "$JS.ACK.futures_TASKS.normal-_.2.1234.99.1700000000123456789.17",
		"12 tokens":                       "$JS.ACK.hub.AbCdEf.futures_TASKS.normal-_.2.1234.99.1700000000123456789.17.random",
		"12 tokens, without a domain":     "$JS.ACK._.AbCdEf.futures_TASKS.normal-_.2.1234.99.1700000000123456789.17.random",
		"12 tokens, the last one missing": "$JS.ACK.hub.AbCdEf.futures_TASKS.normal-_.2.1234.99.1700000000123456789.17",
		"more than are known":             "$JS.ACK.hub.AbCdEf.futures_TASKS.normal-_.2.1234.99.1700000000123456789.17.random.new",
	} {
		t.Run(name, func(t *testing.T) {
			d, err := parseDelivery(reply)
			require.NoError(t, err)
			require.Equal(t, want, d)

			// The servers' own client reads the same.
			m, err := (&nats.Msg{Reply: reply, Sub: &nats.Subscription{}}).Metadata()
			if strings.HasSuffix(name, "missing") || err != nil {
				return
			}
			require.EqualValues(t, d.times, m.NumDelivered)
			require.Equal(t, d.seq, m.Sequence.Stream)
			require.True(t, d.stored.Equal(m.Timestamp))
			require.EqualValues(t, d.pending, m.NumPending)
		})
	}
	for name, reply := range map[string]string{
		"nothing":          "",
		"an inbox":         "_INBOX.abc.def",
		"another API":      "$JS.API.STREAM.INFO.futures_TASKS",
		"too few":          "$JS.ACK.futures_TASKS.normal-_.2.1234.99.1700000000123456789",
		"a word":           "$JS.ACK.futures_TASKS.normal-_.two.1234.99.1700000000123456789.17",
		"an empty one":     "$JS.ACK.futures_TASKS.normal-_..1234.99.1700000000123456789.17",
		"below zero":       "$JS.ACK.futures_TASKS.normal-_.-2.1234.99.1700000000123456789.17", // a worker panicked
		"seq below zero":   "$JS.ACK.futures_TASKS.normal-_.2.-1.99.1700000000123456789.17",
		"over 63 bits":     fmt.Sprintf("$JS.ACK.futures_TASKS.normal-_.2.%d.99.1700000000123456789.17", uint64(math.MaxUint64)),
		"nothing but dots": "$JS.ACK." + strings.Repeat(".", 20),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseDelivery(reply)
			require.ErrorIs(t, err, errNotDelivery)
		})
	}
}

func FuzzDelivery(f *testing.F) {
	f.Add("$JS.ACK.futures_TASKS.normal-_.2.1234.99.1700000000123456789.17")
	f.Add("$JS.ACK.hub.AbCdEf.futures_TASKS.normal-_.2.1234.99.1700000000123456789.17.random")
	f.Fuzz(func(t *testing.T, reply string) {
		d, err := parseDelivery(reply)
		if err == nil && (d.times < 0 || d.pending < 0) {
			t.Fatalf("%q is read as %+v", reply, d)
		}
		if id, err := taskID(reply); err == nil && checkID(id) != nil {
			t.Fatalf("%q is taken for the task of %q", reply, id)
		}
	})
}

// The servers take times to live in whole seconds: none is shorter than it was meant.
func TestTTL(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Nanosecond:                      "1s",
		time.Second:                          "1s",
		time.Second + time.Nanosecond:        "2s",
		time.Hour:                            "3600s",
		time.Duration(1<<62 - 1):             "4611686019s",
		24*time.Hour + 500*time.Millisecond:  "86401s",
		90*time.Second - 999*time.Nanosecond: "90s",
	} {
		require.Equal(t, want, ttl(d), d)
	}
}

// Each step names the record before it, and the record of a call that runs is never let go of
// (pitfall 3).
func TestRecordMsg(t *testing.T) {
	l := &link{names: names{"p"}}
	for _, tt := range []struct {
		r     record
		after uint64
		ttl   string
	}{
		{record{kind: recRunning, worker: "w"}, 0, ""},
		{record{kind: recRunning, worker: "w"}, 41, ""},
		{record{kind: recRunning, worker: "w", free: true}, 41, "60s"},
		{record{kind: recDone}, 42, "60s"},
		{record{kind: recCancelled}, 0, "60s"},
	} {
		m := l.recordMsg("me.g1.2", &tt.r, tt.after, time.Minute)
		require.Equal(t, "p.s.me.g1.2", m.Subject)
		require.Equal(t, fmt.Sprint(tt.after), m.Header.Get(jetstream.ExpectedLastSubjSeqHeader))
		require.Equal(t, tt.ttl, m.Header.Get(jetstream.MsgTTLHeader))
		require.Empty(t, m.Header.Get(jetstream.MsgIDHeader), "it is not what keeps records apart")
		require.Equal(t, tt.r.append(nil), m.Data)
	}
}

// What the servers answer to a message for a stream.
func TestParseAck(t *testing.T) {
	failure := func(code, errCode int) string {
		return fmt.Sprintf(`{"type":"io.nats.jetstream.api.v1.pub_ack_response","error":{"code":%d,"err_code":%d,"description":"no"},"stream":"S","seq":0}`, code, errCode)
	}
	for name, tt := range map[string]struct {
		data  string
		want  ack
		again bool
	}{
		"stored":              {`{"stream":"S", "seq":1234}`, ack{seq: 1234}, false},
		"stored, in a domain": {`{"stream":"S","domain":"hub","seq":7}`, ack{seq: 7}, false},
		"stored before":       {`{"stream":"S","seq":18446744073709551615,"duplicate": true}`, ack{seq: math.MaxUint64}, false},
		"with blanks":         {`{ "stream" : "S", "seq":   99 }`, ack{seq: 99}, false},
		"in another order":    {`{"seq":5,"stream":"S"}`, ack{seq: 5}, false},
		"blanks before":       {`{"stream":"S","seq" : 6}`, ack{seq: 6}, false},
		"no responders":       {"", ack{}, true},
		"no leader":           {failure(503, 10008), ack{}, true},
		"wrong sequence":      {failure(400, 10071), ack{err: errSequence}, false},
		"wrong sequence, of a leader that does not know it yet": {failure(400, 10164), ack{}, true},
		"full":         {failure(503, 10077), ack{err: errFull}, false},
		"no memory":    {failure(400, 10028), ack{err: errFull}, false},
		"no disk":      {failure(500, 10047), ack{err: errFull}, false},
		"no resources": {failure(503, 10023), ack{err: errFull}, false},
		"refused":      {failure(400, 10052), ack{err: &jetstream.APIError{Code: 400, ErrorCode: 10052, Description: "no"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, again := parseAck(&nats.Msg{Data: []byte(tt.data)})
			require.Equal(t, tt.again, again)
			require.Equal(t, tt.want, a)
		})
	}
	a, again := parseAck(&nats.Msg{Data: []byte("no JSON")})
	require.False(t, again)
	require.Error(t, a.err)
}
