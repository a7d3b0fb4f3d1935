package examples_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rows returns the rows of the table in output, by backend, split at white space.
func rows(output string) map[string][]string {
	table := map[string][]string{}
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) > 1 && regexp.MustCompile("^(serial|threads|processes)$").MatchString(fields[0]) {
			table[fields[0]] = fields
		}
	}
	return table
}

// Without arguments the program checks its own list on every backend, also when
// standard input is not a terminal.
func TestPrimes(t *testing.T) {
	stdout, stderr, code := run(t, command(t, "primes"))
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "all agree: yes\n")
	require.NotContains(t, stdout, "is prime", "the program's own numbers are not listed")
	table := rows(stdout)
	require.Len(t, table, 3)
	for name, workers := range map[string]int{"serial": 1, "threads": runtime.GOMAXPROCS(0), "processes": runtime.GOMAXPROCS(0)} {
		// backend, time, s, speed-up, workers, calls, checked, of, all, primes
		row := table[name]
		require.Len(t, row, 10, "%v", row)
		seconds, err := strconv.ParseFloat(row[1], 64)
		require.NoError(t, err)
		require.Positive(t, seconds)
		speedUp, err := strconv.ParseFloat(row[3], 64)
		require.NoError(t, err)
		require.Positive(t, speedUp)
		require.Equal(t, strconv.Itoa(min(workers, 40)), row[4])
		require.Equal(t, []string{"40", "40", "of", "40", "31"}, row[5:])
		for _, line := range []string{": 10 of 40 (25 %)\n", ": 20 of 40 (50 %)\n", ": 30 of 40 (75 %)\n", ": 40 of 40 (100 %)\n"} {
			require.Contains(t, stderr, name+line)
		}
	}
	require.Equal(t, "1.00", table["serial"][3])
}

func TestPrimesInput(t *testing.T) {
	const want = "2 is prime\n4 is not prime\n1 is not prime\n0 is not prime\n9223372036854775807 is not prime\n7 is prime\n9 is not prime\n112272535095293 is prime\n"
	const text = "2 4\t1 0 # a comment, 12x\n\n9223372036854775807\r\n7\n  9\n112272535095293"
	file := filepath.Join(t.TempDir(), "numbers.txt")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	for _, tt := range []struct {
		name  string
		stdin string
		args  []string
	}{
		{"arguments", "", []string{"2", "4", "1", "0", "9223372036854775807", "7", "9", "112272535095293"}},
		{"file", "", []string{"-file", file}},
		{"standard input", text, []string{"-"}},
		{"standard input as file", text, []string{"-file", "-"}},
		{"one backend", text, []string{"-backend", "threads", "-"}},
		{"two backends", text, []string{"-backend", "processes,serial", "-workers", "1", "-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := command(t, "primes", tt.args...)
			cmd.Stdin = strings.NewReader(tt.stdin)
			stdout, stderr, code := run(t, cmd)
			require.Zero(t, code, stderr)
			require.True(t, strings.HasPrefix(stdout, want), stdout)
		})
	}
}

// The three backends check the same numbers, and each row says so.
func TestPrimesBackends(t *testing.T) {
	stdout, _, code := run(t, command(t, "primes", "-backend", "processes,threads", "-workers", "3", "3", "5", "7", "9", "11"))
	require.Zero(t, code)
	table := rows(stdout)
	require.Len(t, table, 2)
	require.NotContains(t, table, "serial")
	require.Equal(t, "-", table["threads"][3], "no speed-up without a serial run")
	require.Less(t, strings.Index(stdout, "processes"), strings.Index(stdout, "threads"), "in the order asked for")
	require.Contains(t, stdout, "all agree: yes")
}

func TestPrimesJSON(t *testing.T) {
	stdout, _, code := run(t, command(t, "primes", "-json", "-workers", "2", "97", "98", "99"))
	require.Zero(t, code)
	type row struct {
		Backend                         string
		Seconds, SpeedUp                float64
		Workers, Calls, Checked, Primes int
	}
	type number struct {
		Number int64
		Prime  bool
	}
	var got struct {
		Count              int
		Agree, Interrupted bool
		Backends           []row
		Numbers            []number
	}
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&got))
	require.Equal(t, 3, got.Count)
	require.True(t, got.Agree)
	require.False(t, got.Interrupted)
	require.Equal(t, []number{{97, true}, {98, false}, {99, false}}, got.Numbers)
	require.Len(t, got.Backends, 3)
	for i, name := range []string{"serial", "threads", "processes"} {
		b := got.Backends[i]
		require.Equal(t, name, b.Backend)
		require.Positive(t, b.Seconds)
		require.Positive(t, b.SpeedUp)
		require.Positive(t, b.Workers)
		require.Equal(t, []int{3, 3, 1}, []int{b.Calls, b.Checked, b.Primes})
	}
}

// What is wrong with the input is said with its place, and the program exits with 2.
func TestPrimesBadInput(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"numbers.txt": "11\n# a comment\n12x\n",
		"empty.txt":   "# nothing but a comment\n",
		"long.txt":    "1\n" + strings.Repeat("7", 1<<17),
		"wrong.txt":   strings.Repeat("x", 1000),
	} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	for _, tt := range []struct {
		name  string
		stdin string
		args  []string
		want  string
	}{
		{"file", "", []string{"-file", "numbers.txt"}, `primes: numbers.txt:3: "12x" is not a whole number of at most 2^63-1`},
		{"argument", "", []string{"7", "1.5"}, `primes: argument 2: "1.5" is not a whole number of at most 2^63-1`},
		{"too large", "", []string{"9223372036854775808"}, `primes: argument 1: "9223372036854775808" is not a whole number of at most 2^63-1`},
		{"negative", "5\n-5\n", []string{"-"}, `primes: standard input:2: "-5" is not a whole number of at most 2^63-1`},
		{"long word", "", []string{"-file", "wrong.txt"}, `primes: wrong.txt:1: "` + strings.Repeat("x", 40) + `..." is not a whole number of at most 2^63-1`},
		{"long line", "", []string{"-file", "long.txt"}, "primes: long.txt:2: the line is longer than 65536 bytes"},
		{"empty file", "", []string{"-file", "empty.txt"}, "primes: empty.txt: there is no number in it"},
		{"empty standard input", "", []string{"-"}, "primes: standard input: there is no number in it"},
		{"no file", "", []string{"-file", "none.txt"}, "primes: open none.txt: "},
		{"file and arguments", "", []string{"-file", "numbers.txt", "5"}, "primes: both -file and numbers (5 ...): give one of them"},
		{"backend", "", []string{"-backend", "threads,gpu"}, `primes: -backend "threads,gpu": "gpu" is none of all, serial, threads, processes`},
		{"backend twice", "", []string{"-backend", "serial,serial"}, `primes: -backend "serial,serial": "serial" is named twice`},
		{"workers", "", []string{"-workers", "-1"}, "primes: -workers -1: must not be negative"},
		{"flag", "", []string{"-speed", "9"}, "primes: flag provided but not defined: -speed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := command(t, "primes", tt.args...)
			cmd.Stdin = strings.NewReader(tt.stdin)
			stdout, stderr, code := run(t, cmd)
			require.Equal(t, 2, code)
			require.Empty(t, stdout)
			require.True(t, strings.HasPrefix(stderr, tt.want), "stderr = %q, want %q", stderr, tt.want)
		})
	}
}

func TestPrimesHelp(t *testing.T) {
	_, stderr, code := run(t, command(t, "primes", "-help"))
	require.Zero(t, code)
	for _, name := range []string{"-backend", "-file", "-json", "-workers"} {
		require.Contains(t, stderr, name)
	}
}
