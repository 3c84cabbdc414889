package drill

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/reconcile"
)

// ErrFailed means that a message was lost, duplicated, out of order or stored under a wrong device, or
// that an expectation was not met.
var ErrFailed = errors.New("the drill failed")

// drill is one run of the command.
type drill struct {
	o    Options
	run  string // the id of the run, in every payload
	crew *crew

	// These slices are indexed by device: the fleet, then the device of burst.
	names    []string
	subjects []string
	index    map[string]int
	ledger   *reconcile.Ledger

	fleet       fleet.Fleet
	misbehave   []misbehavior
	willSubject string
	readers     []*reader
	in          intake
	arrived     chan struct{} // signals that a message of this drill was read; capacity 1

	started time.Time
	ended   time.Time // end of publishing; zero: still publishing

	disconnects     atomic.Uint64
	disconnectMu    sync.Mutex
	lastDisconnect  time.Time
	disconnectCause error
	disconnectsOf   map[int][]time.Time // by device
}

// Run runs the drill and prints its report. If the report contains a failure, the error wraps
// [ErrFailed]. Any other error means that the drill could not run.
func Run(ctx context.Context, o Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	o.lead = cmp.Or(o.lead, 5*time.Second)
	o.hold = cmp.Or(o.hold, 3*time.Second)
	if o.now == nil {
		o.now = time.Now
	}
	d := &drill{
		o: o, run: rand.Text()[:10], in: newIntake(), arrived: make(chan struct{}, 1), disconnectsOf: map[int][]time.Time{},
	}
	var err error
	if d.crew, err = identities(&d.o); err != nil {
		return err
	}
	d.newLedger()
	d.willSubject, _ = d.o.subject(d.o.topic(d.crew.other)) // Check has validated the topic
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
	v.Begin(d.intro())
	d.started = d.o.now()
	v.publish(ctx)
	d.ended = d.o.now()
	settled := v.settle()
	v.End()
	r := d.report(settled)
	if err := r.write(&d.o); err != nil {
		return err
	}
	return r.err()
}

// follow reads every stream from its current end, until stop is called.
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
	js, err := resolved.JetStream(nc)
	if err == nil {
		err = d.startReaders(ctx, js)
	}
	if err != nil {
		stop()
		return nil, err
	}
	for _, r := range d.readers {
		wait.Go(func() { r.run(reading) })
	}
	return stop, nil
}

func (d *drill) startReaders(ctx context.Context, js natsjs.JetStream) error {
	for _, name := range d.o.Streams {
		r, err := newReader(ctx, js, name, d.receive)
		if err != nil {
			return err
		}
		// Missing read permissions are detected before anything is published.
		if err := r.probe(ctx); err != nil {
			return err
		}
		d.readers = append(d.readers, r)
	}
	return nil
}

// connectionLost records that device i lost its connection.
func (d *drill) connectionLost(i int, err error) {
	d.disconnects.Add(1)
	d.disconnectMu.Lock()
	defer d.disconnectMu.Unlock()
	d.lastDisconnect, d.disconnectCause = d.o.now(), err
	d.disconnectsOf[i] = append(d.disconnectsOf[i], d.lastDisconnect)
}

// beforeDisconnectWindow is the time before a disconnect in which an acknowledged message counts as
// one that a killed broker may have had only in memory.
const beforeDisconnectWindow = 2 * time.Second

// beforeDisconnect reports whether device i lost its connection soon after the given time.
func (d *drill) beforeDisconnect(i int, at time.Time) bool {
	d.disconnectMu.Lock()
	defer d.disconnectMu.Unlock()
	for _, lost := range d.disconnectsOf[i] {
		if after := lost.Sub(at); after >= 0 && after <= beforeDisconnectWindow {
			return true
		}
	}
	return false
}

// act starts the fleet and the misbehaving devices. The returned function stops them and waits for
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

// unfinished returns the reason why the reconciliation is not complete yet; empty: it is complete.
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
