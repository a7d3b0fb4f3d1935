package clusterpool_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/processpool"
)

// A setting that makes no sense is refused before anybody is dialled, with the name of its
// field and its value.
func TestConfigRefused(t *testing.T) {
	long := strings.Repeat("x", 65)
	for name, tt := range map[string]struct {
		cfg  clusterpool.Config
		want []string
	}{
		"Name":                {clusterpool.Config{Name: "a.b"}, []string{"Config.Name", `"a.b"`}},
		"Client":              {clusterpool.Config{Client: "a b"}, []string{"Config.Client", `"a b"`}},
		"Client, long":        {clusterpool.Config{Client: long}, []string{"Config.Client", long}},
		"Build":               {clusterpool.Config{Build: ">"}, []string{"Config.Build", `">"`}},
		"Build, that of none": {clusterpool.Config{Build: "_"}, []string{"Config.Build", `"_"`}},
		"Replicas":            {clusterpool.Config{Replicas: -1}, []string{"Config.Replicas", "-1"}},
		"Replicas, too many":  {clusterpool.Config{Replicas: 6}, []string{"Config.Replicas", "6"}},
		"Lease":               {clusterpool.Config{Lease: -time.Second}, []string{"Config.Lease", "-1s"}},
		"Lease, short":        {clusterpool.Config{Lease: 499 * time.Millisecond}, []string{"Config.Lease", "499ms", "500ms"}},
		"KeepResults":         {clusterpool.Config{KeepResults: -time.Minute}, []string{"Config.KeepResults", "-1m0s"}},
		"KeepResults, short":  {clusterpool.Config{KeepResults: 99 * time.Second}, []string{"Config.KeepResults", "1m39s", "10s"}},
		"QueueLimit":          {clusterpool.Config{QueueLimit: -7}, []string{"Config.QueueLimit", "-7"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := clusterpool.New(t.Context(), tt.cfg)
			require.Nil(t, p)
			for _, want := range append(tt.want, "clusterpool: ") {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestServeConfigRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  clusterpool.ServeConfig
		want []string
	}{
		"Name":                {clusterpool.ServeConfig{Name: "*"}, []string{"ServeConfig.Name", `"*"`}},
		"Build":               {clusterpool.ServeConfig{Build: "v1.2"}, []string{"ServeConfig.Build", `"v1.2"`}},
		"Build, that of none": {clusterpool.ServeConfig{Build: "_"}, []string{"ServeConfig.Build", `"_"`}},
		"Worker":              {clusterpool.ServeConfig{Worker: "host.example"}, []string{"ServeConfig.Worker", `"host.example"`}},
		"Slots":               {clusterpool.ServeConfig{Slots: -1}, []string{"ServeConfig.Slots", "-1"}},
		"Slots, too many":     {clusterpool.ServeConfig{Slots: 1<<20 + 1}, []string{"ServeConfig.Slots", "1048577"}},
		"Lease":               {clusterpool.ServeConfig{Lease: time.Nanosecond}, []string{"ServeConfig.Lease", "1ns"}},
		"Isolate.QueueLimit":  {clusterpool.ServeConfig{Isolate: &processpool.Config{QueueLimit: 3}}, []string{"ServeConfig.Isolate.QueueLimit", "3"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := clusterpool.Serve(t.Context(), tt.cfg)
			for _, want := range append(tt.want, "clusterpool: ") {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	got, err := clusterpool.Prepared(clusterpool.Config{})
	require.NoError(t, err)
	require.Regexp(t, `^[0-9A-Za-z]{12}$`, got.Client)
	require.Equal(t, clusterpool.Config{
		URL: nats.DefaultURL, Name: "futures", Client: got.Client, Replicas: 1, Lease: 10 * time.Second,
		KeepResults: time.Hour, Logger: slog.Default(),
	}, got)
	other, err := clusterpool.Prepared(clusterpool.Config{})
	require.NoError(t, err)
	require.NotEqual(t, got.Client, other.Client)

	// An outcome outlives a long lease, too.
	got, err = clusterpool.Prepared(clusterpool.Config{Lease: time.Hour})
	require.NoError(t, err)
	require.Equal(t, 10*time.Hour, got.KeepResults)
	_, err = clusterpool.Prepared(clusterpool.Config{Lease: time.Second, KeepResults: 10 * time.Second})
	require.NoError(t, err, "the least")
}

func TestServeConfigDefaults(t *testing.T) {
	got, err := clusterpool.PreparedServe(clusterpool.ServeConfig{})
	require.NoError(t, err)
	require.Regexp(t, `^[0-9A-Za-z_-]+-[0-9A-Za-z]{6}$`, got.Worker)
	require.Equal(t, clusterpool.ServeConfig{
		URL: nats.DefaultURL, Name: "futures", Worker: got.Worker, Slots: runtime.GOMAXPROCS(0), Lease: 10 * time.Second,
		Grace: 10 * time.Second, Logger: slog.Default(),
	}, got)
	got, err = clusterpool.PreparedServe(clusterpool.ServeConfig{Grace: -1})
	require.NoError(t, err)
	require.Zero(t, got.Grace)

	for name, tt := range map[string]struct{ slots, workers, wantSlots, wantWorkers int }{
		"neither": {0, 0, runtime.GOMAXPROCS(0), runtime.GOMAXPROCS(0)},
		"slots":   {7, 0, 7, 7},
		"workers": {0, 7, 7, 7},
		"both":    {3, 7, 3, 7},
	} {
		t.Run(name, func(t *testing.T) {
			own := processpool.Config{Workers: tt.workers}
			got, err := clusterpool.PreparedServe(clusterpool.ServeConfig{Slots: tt.slots, Isolate: &own})
			require.NoError(t, err)
			require.Equal(t, tt.wantSlots, got.Slots)
			require.Equal(t, tt.wantWorkers, got.Isolate.Workers)
			require.Equal(t, tt.workers, own.Workers, "the caller's own stays as it is")
		})
	}
}

// What an error says of the servers has no password in it, also where the URL cannot be read
// or is one of several.
func TestErrorsHaveNoPassword(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, url := range []string{
		"nats://me:secret@127.0.0.1:1",
		"nats://me:secret%zz@127.0.0.1:1",
		"nats://me:secret/and@127.0.0.1:1",
		"nats://me:sec@secret@127.0.0.1:1",
		"nats://127.0.0.1:1,nats://me:secret@127.0.0.1:2",
		"me:secret@127.0.0.1:1",
		"secret@127.0.0.1:1",
	} {
		_, err := clusterpool.New(ctx, clusterpool.Config{URL: url})
		require.ErrorContains(t, err, "127.0.0.1:1", "which server")
		require.NotContains(t, err.Error(), "secret")
		err = clusterpool.Serve(ctx, clusterpool.ServeConfig{URL: url})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}
