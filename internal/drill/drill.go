package drill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/reconcile"
)

// ErrFailed means that a message was lost, duplicated, out of order or under a wrong
// device, or that an expectation was not met.
var ErrFailed = errors.New("the drill failed")

// drill is one run.
type drill struct {
	o    Options
	run  string // id, in every payload
	crew *crew

	// By device: the fleet, then the burst's.
	names    []string
	subjects []string
	index    map[string]int
	ledger   *reconcile.Ledger

	fleet       fleet.Fleet
	misbehave   []misbehavior
	willSubject string
	readers     []*reader
	in          intake
	arrived     chan struct{} // capacity 1: a message of this drill was read

	started time.Time
	ended   time.Time // of the publishing; zero: it goes on

	lost     atomic.Uint64 // connections
	lostMu   sync.Mutex
	lostAt   time.Time
	lostLast error
	lostOf   map[int][]time.Time // by device
}

// Run runs the drill and prints its report. The error wraps [ErrFailed] where the report
// says that something went wrong; any other kept the drill from running.
func Run(ctx context.Context, o Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	if o.lead == 0 {
		o.lead = 5 * time.Second
	}
	if o.hold == 0 {
		o.hold = 3 * time.Second
	}
	if o.now == nil {
		o.now = time.Now
	}
	d := &drill{o: o, run: rand.Text()[:10], in: newIntake(), arrived: make(chan struct{}, 1)}
	var err error
	if d.crew, err = identities(&d.o); err != nil {
		return err
	}
	d.newLedger()
	d.willSubject, _ = d.o.subject(d.o.topic(d.crew.other)) // Check has seen the topic
	stop, err := d.follow(ctx)
	if err != nil {
		return err
	}
	defer stop()
	d.newFleet()
	if err := d.fleet.Connect(ctx); err != nil {
		return err
	}
	defer d.fleet.Disconnect()
	d.misbehave = d.misbehaviors()

	v := newView(d)
	v.begin()
	d.started = d.o.now()
	v.publish(ctx)
	d.ended = d.o.now()
	settled := v.settle()
	v.end()
	r := d.report(settled)
	if err := r.write(&d.o); err != nil {
		return err
	}
	return r.err()
}

// follow reads every stream from now on, until stop is called.
func (d *drill) follow(ctx context.Context) (stop func(), err error) {
	resolved, err := d.o.NATS.Resolve()
	if err != nil {
		return nil, err
	}
	nc, err := account.Dial(resolved)
	if err != nil {
		return nil, err
	}
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wait sync.WaitGroup
	stop = func() {
		cancel()
		wait.Wait()
		nc.Close()
	}
	if err := d.startReaders(ctx, nc, resolved.JetStream); err != nil {
		stop()
		return nil, err
	}
	for _, r := range d.readers {
		wait.Go(func() { r.run(reading) })
	}
	return stop, nil
}

func (d *drill) startReaders(ctx context.Context, nc *nats.Conn, api jetStreamAPI) error {
	js, err := api(nc)
	if err != nil {
		return err
	}
	for _, name := range d.o.Streams {
		r, err := newReader(ctx, js, name, d.take)
		if err != nil {
			return err
		}
		// A user that may ask and not read is found before anything is published.
		if err := r.probe(ctx); err != nil {
			return err
		}
		d.readers = append(d.readers, r)
	}
	return nil
}

// connectionLost notes that device i lost its connection.
func (d *drill) connectionLost(i int, err error) {
	d.lost.Add(1)
	d.lostMu.Lock()
	defer d.lostMu.Unlock()
	d.lostAt, d.lostLast = d.o.now(), err
	if d.lostOf == nil {
		d.lostOf = map[int][]time.Time{}
	}
	d.lostOf[i] = append(d.lostOf[i], d.lostAt)
}

// lastWords is how long before the end of its connection a device's message counts as one
// that a broker may have had in memory alone when it was killed.
const lastWords = 2 * time.Second

// beforeDisconnect reports whether device i lost its connection soon after a moment.
func (d *drill) beforeDisconnect(i int, at time.Time) bool {
	d.lostMu.Lock()
	defer d.lostMu.Unlock()
	for _, lost := range d.lostOf[i] {
		if after := lost.Sub(at); after >= 0 && after <= lastWords {
			return true
		}
	}
	return false
}

// act starts the fleet and the misbehavior; the function returned ends them and waits for
// their PUBACKs.
func (d *drill) act(ctx context.Context) (stop func()) {
	acting, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	d.fleet.Start()
	for _, m := range d.misbehave {
		wait.Go(func() { m.act(acting) })
	}
	return func() {
		cancel()
		wait.Go(d.fleet.Stop)
		wait.Wait()
	}
}

// unfinished is why the account is not complete yet; empty: it is.
func (d *drill) unfinished() string {
	if n := d.ledger.Missing(); n > 0 {
		return fmt.Sprintf("waiting for %s", plural(n, "message"))
	}
	for _, m := range d.misbehave {
		if w, ok := m.(*will); ok && w.missing() > 0 {
			return fmt.Sprintf("waiting for %s", plural(w.missing(), "will"))
		}
	}
	return ""
}
