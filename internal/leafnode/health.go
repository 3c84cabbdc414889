package leafnode

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/health"
)

// conditions are the conditions that a leaf node needs to store messages and to deliver them to the
// hub. A connection to the hub is not one of them, because the leaf node stores messages until the hub
// is reachable again.
type conditions struct {
	hubUnknown   *health.Condition // the hub has not reported its position since a power cut
	full         *health.Condition // the local store is full
	tooOld       *health.Condition // the oldest waiting message is too old
	ahead        *health.Condition // the hub reports more messages than were stored locally
	store        *health.Condition // the local store fails
	incompatible *health.Condition // the hub's server cannot be used
	streams      *health.Condition // the hub's streams differ from their declaration
}

// newConditions returns the conditions. used returns the bytes in the store, which are logged with
// the conditions that depend on the store.
func newConditions(log zerolog.Logger, used func() uint64) *conditions {
	pausing := func(failed string) *health.Condition {
		return health.New(health.Options{
			Component: "leaf", Log: log, Failed: failed, Ended: "local store accepts messages again",
			Fields: func(line *zerolog.Event, _ error) { line.Uint64("used_bytes", used()) },
		})
	}
	return &conditions{
		hubUnknown: health.New(health.Options{
			Component: "leaf", Log: log, Warn: true,
			Failed: "local store was not closed before the machine stopped, waiting for the hub to report its position",
		}),
		full:         pausing("local store full, pausing"),
		tooOld:       pausing("oldest message in the local store exceeds nats.leaf.max_age, pausing"),
		ahead:        pausing("hub reports more messages than were stored locally, pausing"),
		store:        health.New(health.Options{Component: "leaf", Log: log, Failed: "local store unavailable", Once: true}),
		incompatible: health.New(health.Options{Component: "leaf", Log: log, Failed: "hub incompatible"}),
		streams:      health.New(health.Options{Component: "streams"}), // Hub.Ensure logs it
	}
}

// accepting reports whether the store accepts messages.
func (h *conditions) accepting() bool {
	return h.full.Err() == nil && h.tooOld.Err() == nil && h.ahead.Err() == nil
}

func (h *conditions) problems() []health.Problem {
	return slices.Concat(h.hubUnknown.Problems(), h.full.Problems(), h.tooOld.Problems(), h.ahead.Problems(), h.store.Problems(), h.incompatible.Problems(), h.streams.Problems())
}

// errIf returns err if the condition is true, and nil otherwise.
func errIf(condition bool, err error) error {
	if condition {
		return err
	}
	return nil
}

const fixLink = "fix the link to the hub (leaf in /status), or raise "

var (
	errHubUnknown = advice.With(
		errors.New("the machine stopped while the local store was in use; storing resumes after the hub has reported its position"),
		"make sure that the hub can be reached at nats.url, and that its streams source from this bridge (mqtt-nats-bridge streams plan)")
	errTooOld = advice.With(errors.New("the oldest message in the local store exceeds nats.leaf.max_age"), fixLink+"nats.leaf.max_age")
	errAhead  = advice.With(
		errors.New("the hub reports more messages than were stored locally: the local store was restored from an older copy, or another bridge uses this nats.leaf.domain"),
		"give each bridge its own nats.leaf.domain. If the store was restored: stop the bridge, keep a copy of nats.leaf.store_dir, publish the messages that the hub lacks from it, and start with an empty store")
)

func errFull(limit config.Bytes) error {
	return advice.With(fmt.Errorf("the local store is full: %s wait for the hub", limit), fixLink+"nats.leaf.max_bytes")
}

// storeError adds advice to an error of the local store.
func storeError(err error) error {
	if err == nil {
		return nil
	}
	return advice.With(err, "check the disk of nats.leaf.store_dir: if it is full, nats-server disables JetStream; free space and restart the bridge")
}
