package executortest

import (
	"context"
	"math"
	"math/big"
	"reflect"
	"strings"
	"time"

	"example.com/futures/executor"
)

var typesPromises = []promise{
	{"Basic", "", anywhere, typesBasic},
	{"PointerNil", "", anywhere, typesPointer},
	{"Any", "", anywhere, typesAny},
	{"BigInt", "", anywhere, typesBigInt},
	{"EmptySlice", "", anywhere, typesEmpty},
	{"StructEmptyArg", "", anywhere, typesEmptyStruct},
	{"Composite", "", anywhere, typesComposite},
	{"SelfEncoding", "", anywhere, typesSelfEncoding},
	{"Large", "PRO-29", anywhere, typesLarge},
	{"AnythingInProcess", "", local, typesAnything},
	{"ArgumentIsACopy", "", portable, typesCopy},
}

// echo makes a task that returns its argument.
func echo[T any](name string) executor.Task[T, T] {
	return executor.NewTask("executortest.echo."+name, func(_ context.Context, v T) (T, error) { return v, nil })
}

var (
	echoBool      = echo[bool]("bool")
	echoInt8      = echo[int8]("int8")
	echoUint64    = echo[uint64]("uint64")
	echoFloat     = echo[float64]("float64")
	echoComplex   = echo[complex128]("complex128")
	echoString    = echo[string]("string")
	echoBytes     = echo[[]byte]("bytes")
	echoPointer   = echo[*int]("pointer")
	echoAny       = echo[any]("any")
	echoBig       = echo[*big.Int]("big")
	echoBigs      = echo[[]*big.Int]("bigs")
	echoInts      = echo[[]int]("ints")
	echoMap       = echo[map[string][]int]("map")
	echoArray     = echo[[3]string]("array")
	echoEmpty     = echo[struct{}]("empty")
	echoShape     = echo[Shape]("shape")
	echoShapes    = echo[[]*Shape]("shapes")
	echoTime      = echo[time.Time]("time")
	echoDurations = echo[map[time.Duration]time.Duration]("durations")
)

// echoed fails the check unless task returns v for each v, on ex.
func echoed[T any](c *check, ex executor.Executor, task executor.Task[T, T], vs ...T) {
	c.Helper()
	for _, v := range vs {
		got, err := executor.Apply(c.ctx, ex, task, v)
		if err != nil || !reflect.DeepEqual(got, v) {
			c.Errorf("%s of %#v = %#v, %v", task.Name(), v, got, err)
		}
	}
}

// Numbers, strings, bools and bytes arrive as they are, zero values too.
func typesBasic(c *check) {
	ex := c.open(Config{Workers: 1})
	echoed(c, ex, echoBool, true, false)
	echoed(c, ex, echoInt8, 0, -128, 127)
	echoed(c, ex, echoUint64, 0, math.MaxUint64)
	echoed(c, ex, echoFloat, 0, -1.5, math.Inf(1), math.SmallestNonzeroFloat64)
	echoed(c, ex, echoComplex, 0, complex(1, -2))
	echoed(c, ex, echoString, "", "ünïcode", "nul\x00byte\xff")
	echoed(c, ex, echoBytes, []byte{0}, []byte("bytes"))
}

// A pointer may be nil, at the top level too.
func typesPointer(c *check) {
	ex := c.open(Config{Workers: 1})
	seven := 7
	echoed(c, ex, echoPointer, nil, &seven)
	// A pointer to a zero value may arrive as nil: gob leaves zero values out.
	zero := 0
	got := value(c, executor.Submit(c.ctx, ex, echoPointer, &zero))
	if got != nil && *got != 0 {
		c.Fatalf("a pointer to 0 arrives as one to %d", *got)
	}
}

// An interface may hold any type that gob knows, or nothing.
func typesAny(c *check) {
	ex := c.open(Config{Workers: 1})
	echoed(c, ex, echoAny, nil, 7, "text", 2.5, true, any(&Shape{Name: "point"}))
}

// A *big.Int arrives whole, whatever its size, and may be nil.
func typesBigInt(c *check) {
	ex := c.open(Config{Workers: 1})
	huge := new(big.Int).Lsh(big.NewInt(1), 10000)
	for _, n := range []*big.Int{big.NewInt(0), big.NewInt(-5), huge} {
		if got := value(c, executor.Submit(c.ctx, ex, echoBig, n)); got == nil || got.Cmp(n) != 0 {
			c.Fatalf("%v arrives as %v", n, got)
		}
	}
	if got := value(c, executor.Submit(c.ctx, ex, echoBig, nil)); got != nil {
		c.Fatalf("nil arrives as %v", got)
	}
	got := value(c, executor.Submit(c.ctx, ex, echoBigs, []*big.Int{big.NewInt(3), huge}))
	if len(got) != 2 || got[0].Int64() != 3 || got[1].Cmp(huge) != 0 {
		c.Fatalf("a slice of them arrives as %v", got)
	}
}

// An empty slice or map arrives without elements, maybe as nil.
func typesEmpty(c *check) {
	ex := c.open(Config{Workers: 1})
	for _, s := range [][]int{nil, {}} {
		equal(c, "len", len(value(c, executor.Submit(c.ctx, ex, echoInts, s))), 0)
	}
	for _, m := range []map[string][]int{nil, {}} {
		equal(c, "len", len(value(c, executor.Submit(c.ctx, ex, echoMap, m))), 0)
	}
	equal(c, "len", len(value(c, executor.Submit(c.ctx, ex, echoBytes, []byte{}))), 0)
	equal(c, "Inner", value(c, executor.Submit(c.ctx, ex, echoShape, Shape{})).Inner, nil)
}

// No argument, and no result, is struct{}.
func typesEmptyStruct(c *check) {
	ex := c.open(Config{Workers: 1})
	echoed(c, ex, echoEmpty, struct{}{})
	for range 3 {
		value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{}))
	}
}

// Structs, slices, arrays and maps of them arrive as they are.
func typesComposite(c *check) {
	ex := c.open(Config{Workers: 1})
	s := Shape{Name: "triangle", Sides: []float64{3, 4, 5}, Inner: &Shape{Name: "point"}, Tags: map[string]int{"corners": 3}}
	echoed(c, ex, echoShape, s)
	echoed(c, ex, echoShapes, []*Shape{&s, {Name: "other"}})
	echoed(c, ex, echoInts, []int{1, 0, 3})
	echoed(c, ex, echoMap, map[string][]int{"a": {1}, "b": {2, 3}})
	echoed(c, ex, echoArray, [3]string{"x", "", "z"})
	echoed(c, ex, echoDurations, map[time.Duration]time.Duration{time.Second: time.Hour})
}

// A type that encodes itself arrives whole, unexported fields and all.
func typesSelfEncoding(c *check) {
	ex := c.open(Config{Workers: 1})
	for _, want := range []time.Time{time.Now(), {}, time.Date(1969, 7, 20, 20, 17, 40, 5, time.UTC)} {
		if got := value(c, executor.Submit(c.ctx, ex, echoTime, want)); !got.Equal(want) {
			c.Fatalf("%v arrives as %v", want, got)
		}
	}
}

// Large arguments and results travel whole. // PRO-29
func typesLarge(c *check) {
	ex := c.open(Config{Workers: 1})
	for _, size := range []int{1 << 16, 1<<20 + 1, 24 << 20} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i * 7)
		}
		got := value(c, executor.Submit(c.ctx, ex, echoBytes, b))
		equal(c, "whether the bytes arrive as they are", reflect.DeepEqual(got, b), true)
		s := strings.Repeat("text", size/4)
		equal(c, "whether the text arrives as it is", value(c, executor.Submit(c.ctx, ex, echoString, s)) == s, true)
	}
}

// In process nothing is encoded: any type will do, and arrives as itself.
func typesAnything(c *check) {
	ex := c.open(Config{Workers: 1})
	type private struct {
		ch chan int
		fn func() int
	}
	p := &private{make(chan int), func() int { return 1 }}
	task := executor.LocalTask(func(_ context.Context, p *private) (*private, error) { return p, nil })
	equal(c, "Result", value(c, executor.Submit(c.ctx, ex, task, p)), p)
	equal(c, "the result of its function", value(c, executor.Submit(c.ctx, ex, task, p)).fn(), 1)
}

// spoilTask changes what its argument points to.
var spoilTask = executor.NewTask("executortest.spoil", func(_ context.Context, s *Shape) (string, error) {
	s.Name = "spoilt"
	s.Sides[0] = -1
	return s.Name, nil
})

// A task that runs elsewhere has a copy of its argument.
func typesCopy(c *check) {
	ex := c.open(Config{Workers: 1})
	s := &Shape{Name: "mine", Sides: []float64{1}}
	equal(c, "Result", value(c, executor.Submit(c.ctx, ex, spoilTask, s)), "spoilt")
	equal(c, "Name", s.Name, "mine")
	equal(c, "Sides[0]", s.Sides[0], 1)
}
