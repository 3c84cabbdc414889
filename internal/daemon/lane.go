package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream"
	"mqtt-nats-bridge/mqtt"
)

// laneUnit is a lane with its two ends and its journal.
type laneUnit struct {
	plan LanePlan
	log  zerolog.Logger

	mu        sync.Mutex
	problem   string // why the lane is not open yet; empty: it is
	since     time.Time
	lane      *bridge.Lane
	journal   *bridge.Journal
	publisher *jetstream.Publisher
	session   *mqtt.Session
}

// laneShared is what all lanes of a bridge have in common.
type laneShared struct {
	config  *config.Config
	tls     *tls.Config
	rules   *bridge.Rules
	devices *bridge.Devices
	tenants *bridge.Devices
	nats    jetstream.ConnectOptions
}

func newLaneUnit(plan LanePlan, log zerolog.Logger) *laneUnit {
	return &laneUnit{
		plan: plan, problem: "not opened yet", since: time.Now(),
		log: log.With().Str("lane", plan.ClientID).Logger(),
	}
}

// run opens the lane and, where the journal cannot be had, tries again: without
// it no message may be taken. It returns when the lane is open.
func (u *laneUnit) run(ctx context.Context, shared *laneShared) error {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		journal, err := u.openJournal(shared.config.StateDir)
		if err == nil {
			return u.open(shared, journal)
		}
		u.mu.Lock()
		news := u.problem != err.Error()
		u.problem = err.Error()
		u.mu.Unlock()
		if news {
			u.log.Error().Err(err).Msg("the lane takes no messages without its journal; trying again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (u *laneUnit) openJournal(dir string) (*bridge.Journal, error) {
	if dir == "" {
		return bridge.NewJournal(), nil
	}
	journal, movedTo, why, err := bridge.OpenJournal(dir, u.plan.ClientID)
	if movedTo != "" {
		u.log.Warn().AnErr("problem", why).Str("moved_to", movedTo).
			Msg("the journal was unusable and has been moved aside; what was in flight may be stored twice")
	}
	return journal, err
}

func (u *laneUnit) open(shared *laneShared, journal *bridge.Journal) error {
	c := shared.config
	lane, err := bridge.NewLane(bridge.LaneOptions{
		Name: u.plan.ClientID, Rules: shared.rules, Devices: shared.devices, Tenants: shared.tenants,
		Journal: journal, QoS0Pending: c.Lane.QoS0Pending,
	})
	if err != nil {
		return err
	}
	connect := shared.nats
	connect.Name = u.plan.ClientID
	publisher, err := jetstream.NewPublisher(jetstream.PublisherOptions{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) { return jetstream.Connect(connect, extra...) },
		Settler: lane, AckTimeout: c.NATS.AckTimeout, Log: u.log,
	})
	if err != nil {
		return err
	}
	lane.Start(publisher)
	session, err := mqtt.Open(mqtt.Options{
		Address: c.MQTT.URL.Address(), TLS: shared.tls, ClientID: u.plan.ClientID,
		Username: c.MQTT.Username, Password: c.MQTT.Password.Reveal(),
		KeepAlive: c.MQTT.KeepAlive, MaxPacket: int(c.MQTT.MaxPacket), Linger: c.Lane.Linger,
		Filters: u.plan.Filters, Receiver: lane, Log: u.log,
	})
	if err != nil {
		publisher.Close()
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.problem, u.since = "", time.Now()
	u.lane, u.journal, u.publisher, u.session = lane, journal, publisher, session
	return nil
}

// parts returns what there is of the lane; all nil before it is open.
func (u *laneUnit) parts() (*bridge.Lane, *jetstream.Publisher, *mqtt.Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lane, u.publisher, u.session
}

// stop takes the lane down: no new messages, wait for those under way until ctx
// ends, acknowledge them, disconnect. It returns how many were left unsettled;
// they stay with the broker.
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
	if err := u.journal.Close(); err != nil {
		u.log.Error().Err(err).Msg("close journal")
	}
	return abandoned
}

// problems lists what keeps the lane from being ready.
func (u *laneUnit) problems() []Problem {
	u.mu.Lock()
	problem, since := u.problem, u.since
	u.mu.Unlock()
	if problem != "" {
		return []Problem{{Component: "lane", Problem: problem, Since: since, Lanes: []string{u.plan.ClientID}}}
	}
	_, publisher, session := u.parts()
	var all []Problem
	if s := session.Status(); !s.Connected || !s.Subscribed || s.Takeover {
		text := s.Problem
		if text == "" {
			text = fmt.Sprintf("another client seems to use the client id %s", u.plan.ClientID)
		}
		all = append(all, Problem{Component: "mqtt", Problem: text, Since: s.Since, Lanes: []string{u.plan.ClientID}})
	}
	if p := publisher.Stats(); p.Problem != "" {
		since := p.Since
		if since.IsZero() {
			since = time.Now()
		}
		all = append(all, Problem{Component: "jetstream", Problem: p.Problem, Advice: p.Advice, Since: since, Lanes: []string{u.plan.ClientID}})
	}
	return all
}
