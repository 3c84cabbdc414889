package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/lanelog"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/mqtt"
)

// laneUnit is a lane with its publisher, MQTT session and journal.
type laneUnit struct {
	plan        plan.Lane
	connections *lanelog.Connections // log of all lanes' NATS connections
	log         zerolog.Logger
	mqttLog     zerolog.Logger // the session names the lane by its client id

	opened *health.Condition // the lane is open

	mu        sync.Mutex
	lane      *bridge.Lane
	journal   *journal.Journal
	publisher *publish.Publisher
	session   *mqtt.Session
	unstored  time.Time // when the publisher was first seen without a connection
	last      *LastProblem
	strays    strays

	// With partitions auto; see partition.go.
	leased  bool          // the lane is open only while this replica leases its partition
	owned   bool          // this replica leases it now
	opening chan struct{} // closed when the lane is open, or opening was given up
	endOpen context.CancelFunc
	past    laneReading // counts from earlier times when it was open
}

// laneShared contains the parts that all lanes of a bridge share.
type laneShared struct {
	config             *config.Config
	rules              *bridge.Rules
	tracing            *bridge.Tracing
	limits             *limit.Live
	devices            *limit.Budgets
	tenants            *limit.Budgets
	nats               conn.Options
	noStreamForSubject func(subject string) bool
	lookup             *publish.LookupOptions
	fenced             func() bool                // reports whether the streams may still be in creation
	local              nats.InProcessConnProvider // in leaf mode
	peers              *mqtt.Peers
}

func newLaneUnit(plan plan.Lane, log zerolog.Logger, connections *lanelog.Connections) *laneUnit {
	mqttLog := log
	log = log.With().Str("lane", plan.ClientID).Logger()
	return &laneUnit{
		plan: plan, connections: connections, log: log, mqttLog: mqttLog,
		opened: health.New(health.Options{
			Component: "lane", Log: log, Failed: "the lane takes no messages without its journal; trying again", Initial: errors.New("not opened yet"),
		}),
	}
}

// run opens the lane. If the journal cannot be opened, it retries: without a journal no message may
// be accepted. It returns when the lane is open.
func (u *laneUnit) run(ctx context.Context, shared *laneShared) error {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		j, err := u.openJournal(shared.config.StateDir)
		if err == nil {
			if err := u.open(ctx, shared, j, claim{hadSession: j.Alive() > 0}); ctx.Err() == nil {
				return err
			}
			return nil
		}
		u.opened.Set(advice.With(err, journalAdvice(err)))
		if !sleep.For(ctx, pause) {
			return nil
		}
	}
}

func (u *laneUnit) openJournal(dir string) (*journal.Journal, error) {
	if dir == "" {
		return journal.New(), nil
	}
	opened, err := journal.Open(journal.Options{Dir: dir, ClientID: u.plan.ClientID})
	if opened.MovedTo != "" {
		u.log.Warn().Str("component", "lane").AnErr("problem", opened.Reason).Str("moved_to", opened.MovedTo).
			Msg("journal unusable and moved aside; messages that were in flight may be stored twice")
	}
	if opened.Stale != "" {
		u.log.Warn().Str("component", "lane").Str("reason", opened.Stale).
			Msg("journal is stale and not used; messages that were in flight may be stored twice")
	}
	return opened.Journal, err
}

// claim is a lane's right to use its client id.
type claim struct {
	// of is nil if no other process uses the client id.
	of mqtt.Claim
	// hadSession reports whether the broker had a session for the client id at the last connection.
	hadSession bool
}

// open opens the lane, which takes ownership of the journal. It fails if ctx ends first.
func (u *laneUnit) open(ctx context.Context, shared *laneShared, j *journal.Journal, claim claim) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, j.Close())
		}
	}()
	c := shared.config
	lane, err := bridge.NewLane(bridge.LaneOptions{
		Name: u.plan.ClientID, Rules: shared.rules, Limits: shared.limits, Devices: shared.devices, Tenants: shared.tenants,
		Journal: j, QoS0Pending: c.Lane.QoS0Pending, Tracing: shared.tracing,
	})
	if err != nil {
		return err
	}
	connect := shared.nats
	connect.Name, connect.Hooks = u.plan.ClientID, u.connections.Hooks(u.plan.ClientID)
	options := publish.Options{
		Connect:   func(extra ...nats.Option) (*nats.Conn, error) { return conn.Connect(connect, extra...) },
		InProcess: shared.local, Settler: lane, AckTimeout: c.NATS.AckTimeout, StrictOrder: c.Strict(),
		NoStreamForSubject: shared.noStreamForSubject, Lookup: shared.lookup, Fenced: shared.fenced, Log: u.log, Advice: advice.For,
	}
	if claim.of != nil {
		options.Fenced = func() bool { return shared.fenced() || claim.of.Fenced() }
	}
	publisher, err := publish.Open(options)
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // the attempt to connect took longer
		publisher.Close()
		return ctx.Err()
	}
	lane.Start(publisher)
	session, err := mqtt.Open(u.sessionOptions(shared, lane, claim))
	if err != nil {
		publisher.Close()
		return err
	}
	if !u.set(ctx, lane, j, publisher, session) {
		session.Close()
		publisher.Close()
		return ctx.Err()
	}
	return nil
}

// set makes the lane an open one that stop closes; false: ctx has ended, and stop may have been called.
func (u *laneUnit) set(ctx context.Context, lane *bridge.Lane, j *journal.Journal, p *publish.Publisher, s *mqtt.Session) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	u.opened.Clear()
	u.lane, u.journal, u.publisher, u.session = lane, j, p, s
	return true
}

func (u *laneUnit) sessionOptions(shared *laneShared, lane *bridge.Lane, claim claim) mqtt.Options {
	c := shared.config
	o := mqttaccount.Options(c.MQTT, u.plan.ClientID)
	o.KeepAlive, o.MaxPacket, o.Linger = c.MQTT.KeepAlive, int(c.MQTT.MaxPacket), c.Lane.Linger
	o.Filters, o.Former, o.FilterFile = u.plan.Filters, u.plan.Former, u.filterFile(c, claim)
	o.Peers, o.Retiring, o.HadSession, o.Claim = shared.peers, u.plan.Retiring, claim.hadSession, claim.of
	o.Receiver, o.Log = lane, u.mqttLog
	return o
}

// filterFile returns the file in which the session stores its filters. A leased lane has none: the
// file would become stale while another replica has the partition.
func (u *laneUnit) filterFile(c *config.Config, claim claim) string {
	if c.StateDir == "" || claim.of != nil {
		return ""
	}
	return filepath.Join(c.StateDir, u.plan.ClientID+".filters")
}

// parts returns the parts of the lane; all are nil before it is open.
func (u *laneUnit) parts() (*bridge.Lane, *publish.Publisher, *mqtt.Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lane, u.publisher, u.session
}

// stop closes the lane: it accepts no new messages, waits for those in flight until ctx ends,
// acknowledges them and disconnects. It returns the number of unsettled messages, which the broker
// keeps.
func (u *laneUnit) stop(ctx context.Context) (abandoned int) {
	lane, publisher, session := u.parts()
	if lane == nil {
		return 0
	}
	session.Drain()
	select {
	case <-lane.Idle():
	case <-ctx.Done():
		abandoned = lane.Counts().InFlight
	}
	session.Close()
	publisher.Close()
	u.connections.Forget(u.plan.ClientID)
	if err := u.journal.Close(); err != nil {
		u.log.Error().Str("component", "lane").Err(err).Msg("journal could not be closed")
	}
	return abandoned
}

// problems lists the problems that keep the lane from being ready.
func (u *laneUnit) problems() []Problem {
	u.mu.Lock()
	publisher, session := u.publisher, u.session
	elsewhere := u.leased && !u.owned
	closed := u.opened.Problems()
	u.mu.Unlock()
	if elsewhere {
		return nil
	}
	lanes := []string{u.plan.ClientID}
	if closed == nil && session == nil { // it is being opened or closed
		closed = []Problem{{Component: "lane", Problem: "being opened", Since: time.Now()}}
	}
	if closed != nil {
		closed[0].Lanes = lanes
		return closed
	}
	var all []Problem
	if s := session.Status(); !s.Connected || !s.Subscribed || s.Takeover {
		all = append(all, Problem{Component: "mqtt", Problem: mqttProblem(&s), Advice: mqttaccount.Advice(s.Err), Since: s.Since, Lanes: lanes})
	}
	p := u.publisherStats(publisher)
	since := u.unstoredSince(&p.Stats)
	if p.Problem != "" {
		component := "jetstream"
		if !p.Connected {
			component = "nats"
		}
		all = append(all, Problem{Component: component, Problem: p.Problem, Advice: p.Advice, Subject: p.Subject, Since: since, Lanes: lanes})
	}
	return all
}

// publisherStats returns the publisher's stats and adds the reason why it is not connected, which
// the publisher does not know.
func (u *laneUnit) publisherStats(publisher *publish.Publisher) PublisherStatus {
	s := publisher.Stats()
	if p, failing := u.connections.Problem(u.plan.ClientID); failing && !s.Connected {
		s.Problem, s.Err = p.Error(), p
	}
	return PublisherStatus{Stats: s, Advice: advice.For(s.Err)}
}

// unstoredSince returns the time since which the publisher cannot store messages. The publisher
// itself notices that only when there is a message to store.
func (u *laneUnit) unstoredSince(p *publish.Stats) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case p.Problem == "":
		u.unstored = time.Time{}
	case u.unstored.IsZero():
		u.unstored = time.Now()
	}
	if !p.Since.IsZero() {
		return p.Since
	}
	return u.unstored
}
