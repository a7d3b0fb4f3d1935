package clustertest

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A Journal is a directory in which every process that runs calls writes down when each of
// them starts and ends. What a process has written stays when it is killed. It is safe for
// concurrent use, also by several processes.
type Journal struct {
	tb  testing.TB
	dir string
}

// A Record is one line of a Journal.
type Record struct {
	Call int64 // the call's number, as given to Start
	End  bool  // the call ended; otherwise it started
	PID  int   // the process
	Time time.Time
}

// A record in a file: magic, kind, two bytes of nothing, process ID, call, time.
const (
	recordSize  = 24
	recordMagic = 0xA7
	kindStart   = 1
	kindEnd     = 2
)

// logs are the files of this process, by directory.
var logs = struct {
	sync.Mutex // guards files
	files      map[string]*os.File
}{files: map[string]*os.File{}}

// NewJournal makes a Journal. The directory is gone after the test, so no call may be
// running then.
func NewJournal(t testing.TB) *Journal {
	t.Helper()
	j := &Journal{tb: t, dir: t.TempDir()}
	t.Cleanup(func() { // before the directory is removed
		logs.Lock()
		defer logs.Unlock()
		if f := logs.files[j.dir]; f != nil {
			f.Close()
			delete(logs.files, j.dir)
		}
	})
	return j
}

// Dir returns the directory, which travels to the tasks in their arguments.
func (j *Journal) Dir() string { return j.dir }

// Start writes down that the call with this number starts in this process, and returns a
// function that writes down its end. Tasks call it first of all:
//
//	defer clustertest.Start(arg.Journal, arg.Call)()
//
// It panics if it cannot write, which makes the call fail.
func Start(dir string, call int64) (end func()) {
	f, err := logOf(dir)
	if err == nil {
		err = write(f, kindStart, call)
	}
	if err != nil {
		panic(err)
	}
	return func() {
		if err := write(f, kindEnd, call); err != nil {
			panic(err)
		}
	}
}

// logOf returns the file of this process in the directory, open.
func logOf(dir string) (*os.File, error) {
	logs.Lock()
	defer logs.Unlock()
	if f := logs.files[dir]; f != nil {
		return f, nil
	}
	path := filepath.Join(dir, strconv.Itoa(os.Getpid())+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	// An earlier process with this ID may have been killed in the middle of a record.
	info, err := f.Stat()
	if err == nil && info.Size()%recordSize != 0 {
		err = f.Truncate(info.Size() - info.Size()%recordSize)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	logs.files[dir] = f
	return f, nil
}

// write appends a record with one system call.
func write(f *os.File, kind byte, call int64) error {
	b := make([]byte, 0, recordSize)
	b = append(b, recordMagic, kind, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(os.Getpid()))
	b = binary.LittleEndian.AppendUint64(b, uint64(call))
	b = binary.LittleEndian.AppendUint64(b, uint64(time.Now().UnixNano()))
	_, err := f.Write(b)
	return err
}

// Records returns all records in the order of their times. One that a process was about to
// write when it was killed is left out.
func (j *Journal) Records() []Record {
	j.tb.Helper()
	paths, err := filepath.Glob(filepath.Join(j.dir, "*.log"))
	if err != nil {
		j.tb.Fatalf("journal: %v", err)
	}
	var all []Record
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			j.tb.Fatalf("journal: %v", err)
		}
		for ; len(b) >= recordSize; b = b[recordSize:] {
			if b[0] != recordMagic || b[1] != kindStart && b[1] != kindEnd {
				j.tb.Fatalf("journal: %s holds % x, which is no record", path, b[:recordSize])
			}
			all = append(all, Record{
				PID:  int(binary.LittleEndian.Uint32(b[4:])),
				Call: int64(binary.LittleEndian.Uint64(b[8:])),
				Time: time.Unix(0, int64(binary.LittleEndian.Uint64(b[16:]))),
				End:  b[1] == kindEnd,
			})
		}
	}
	slices.SortStableFunc(all, func(a, b Record) int { return a.Time.Compare(b.Time) })
	return all
}

// Starts returns how often each call has started. A call that never did is not in it.
func (j *Journal) Starts() map[int64]int {
	j.tb.Helper()
	return j.count(false)
}

// Ends returns how often each call has ended.
func (j *Journal) Ends() map[int64]int {
	j.tb.Helper()
	return j.count(true)
}

func (j *Journal) count(ends bool) map[int64]int {
	j.tb.Helper()
	n := map[int64]int{}
	for _, r := range j.Records() {
		if r.End == ends {
			n[r.Call]++
		}
	}
	return n
}

// Twice returns the keys that were counted more than once, in order, for a test's message.
func Twice[K int64 | string](counts map[K]int) []K {
	var more []K
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if counts[k] > 1 {
			more = append(more, k)
		}
	}
	return more
}
