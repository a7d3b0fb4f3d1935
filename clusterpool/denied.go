package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// denials are what the servers do not permit this program. They say so beside the requests:
// who waits for the answer to one gets none.
type denials struct {
	mu      sync.Mutex // guards the fields below; nothing is called under it
	last    error
	at      time.Time
	next    int
	waiting map[int]waiter
	publish func(subject string, why error) // may be nil
}

// A waiter is told of denials of subjects with a text in them.
type waiter struct {
	about string
	tell  func(error)
}

// freshDenial is for how long a denial is believed to be why a request is not answered.
const freshDenial = 10 * time.Second

var deniedPublish = regexp.MustCompile(`Publish to "([^"]+)"`)

// note takes an error of the connection in.
func (d *denials) note(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	var told []func(error)
	d.mu.Lock()
	d.last, d.at = err, time.Now()
	for _, w := range d.waiting {
		if strings.Contains(err.Error(), w.about) {
			told = append(told, w.tell)
		}
	}
	publish := d.publish
	d.mu.Unlock()
	for _, fn := range told {
		fn(err)
	}
	if subject := deniedPublish.FindStringSubmatch(err.Error()); publish != nil && subject != nil {
		publish(subject[1], err)
	}
}

// during returns a context that ends when a subject with this text in it is denied.
func (d *denials) during(ctx context.Context, about string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	key := d.next
	if d.waiting == nil {
		d.waiting = map[int]waiter{}
	}
	d.waiting[key] = waiter{about, cancel}
	return ctx, func() {
		d.mu.Lock()
		delete(d.waiting, key)
		d.mu.Unlock()
		cancel(nil)
	}
}

// explainUnder is explain for a request that was made under ctx, the caller's own: if that
// has ended, its cause is in the error. Who has cancelled it is not told of credentials.
func (d *denials) explainUnder(ctx context.Context, err error) error {
	err = causeOf(ctx, err)
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	return d.explain(err)
}

// causeOf adds to err, that of a request under ctx, why ctx has ended, if it has.
func causeOf(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// explain adds to err, that of a request, what was denied lately. No caller's ctx has ended.
func (d *denials) explain(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil || d.last == nil || time.Since(d.at) > freshDenial || errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	if errors.Is(err, context.Canceled) { // by what during has returned, which is not the caller's
		return fmt.Errorf("clusterpool: the credentials do not permit it: %w", d.last)
	}
	return fmt.Errorf("%w: the credentials do not permit it: %w", err, d.last)
}

// permitted returns what was denied so far, after the servers have said so: what was sent
// before has come to them.
func (l *link) permitted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := l.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNoBroker, err)
	}
	if err := l.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("clusterpool: the credentials do not permit it: %w", err)
	}
	return nil
}
