package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mostTasks is how many calls the streams that a pool makes may have waiting, of all
// clients together. Who has more raises it with the servers' own tools.
const mostTasks = 4 << 20

// duplicates is how long the servers know a task's message by its ID.
const duplicates = 2 * time.Minute

// streams makes what the pool's names stand for, where it is not there yet, and returns when
// the two streams were made: that tells one that was made anew.
func (l *link) streams(ctx context.Context, cfg *Config) (made [2]time.Time, err error) {
	storage := jetstream.FileStorage
	if cfg.Memory {
		storage = jetstream.MemoryStorage
	}
	for i, c := range []jetstream.StreamConfig{
		{
			Name: l.tasks(), Subjects: []string{l.pool + ".q.>"}, Description: "calls of the pool " + l.pool,
			Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxMsgs: mostTasks,
			Duplicates: duplicates,
		},
		{
			Name: l.state(), Subjects: []string{l.pool + ".s.>"}, Description: "what became of calls of the pool " + l.pool,
			// No MaxAge: it would let go of the record of a call that runs (pitfall 3).
			MaxMsgsPerSubject: 1, AllowMsgTTL: true,
			Duplicates: 100 * time.Millisecond, // of no use: no record has a message ID
		},
	} {
		c.Storage, c.Replicas, c.AllowDirect = storage, cfg.Replicas, true
		s, err := l.js.CreateStream(ctx, c)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			s, err = l.js.Stream(ctx, c.Name)
		}
		if err != nil {
			return made, fmt.Errorf("clusterpool: the stream %s: %w", c.Name, err)
		}
		if err := checkStream(c, s.CachedInfo().Config); err != nil {
			return made, err
		}
		made[i] = s.CachedInfo().Created
	}
	_, err = l.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: l.blobs(), Description: "large arguments and results of the pool " + l.pool,
		TTL: 2 * cfg.KeepResults, Storage: storage, Replicas: cfg.Replicas,
	})
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
		return made, fmt.Errorf("clusterpool: the object store %s: %w", l.blobs(), err)
	}
	return made, nil
}

// checkStream checks the settings of a stream that somebody else has made, perhaps, against
// those that the pool would have made it with. It is particular about those without which
// calls would get lost, hang or start twice.
func checkStream(want, is jetstream.StreamConfig) error {
	name := is.Name
	const edit, anew = "change it with the servers' own tools", "delete the stream, and New makes it"
	bad := func(setting string, is, want any, remedy string) error {
		return fmt.Errorf("clusterpool: the stream %s was made with other settings: its %s is %v and must be %v: %s", name, setting, is, want, remedy)
	}
	switch {
	case is.Retention != want.Retention:
		return bad("Retention", is.Retention, want.Retention, anew)
	case want.AllowMsgTTL && !is.AllowMsgTTL:
		return bad("AllowMsgTTL", false, true, edit)
	case is.MaxAge != 0:
		return bad("MaxAge", is.MaxAge, "0, for ever", edit)
	case want.MaxMsgsPerSubject > 0 && is.MaxMsgsPerSubject != want.MaxMsgsPerSubject:
		return bad("MaxMsgsPerSubject", is.MaxMsgsPerSubject, want.MaxMsgsPerSubject, edit)
	}
	return nil
}

// consumers makes what a worker takes calls from.
// It returns when they were made: that tells ones that were made anew.
func (l *link) consumers(ctx context.Context, cfg *ServeConfig) (made [classes]time.Time, err error) {
	for c := range class(classes) {
		consumer, err := l.js.CreateOrUpdateConsumer(ctx, l.tasks(), jetstream.ConsumerConfig{
			Durable:       l.consumer(c, cfg.Build),
			FilterSubject: l.pool + ".q." + c.String() + "." + buildToken(cfg.Build) + ".>",
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       cfg.Lease, // and no BackOff list, which would replace it (pitfall 6)
			MaxDeliver:    -1,        // else a call would stay in the queue, delivered to nobody (pitfall 5)
			MaxAckPending: -1,        // 1,000 otherwise, at which delivery stops without a word (pitfall 7)
			MaxWaiting:    8192,      // 512 otherwise (pitfall 7)
		})
		if err != nil {
			return made, fmt.Errorf("clusterpool: the consumer %s of %s: %w", l.consumer(c, cfg.Build), l.tasks(), err)
		}
		made[c] = consumer.CachedInfo().Created
	}
	return made, nil
}
