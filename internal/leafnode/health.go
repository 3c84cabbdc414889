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

// conditions is what a leaf node needs to store messages and to get them to the hub. That the
// hub can be reached is none of it: to store until then is what it is for.
type conditions struct {
	hubKnown *health.Condition // what the hub has, after a power cut
	room     *health.Condition // in the local store
	young    *health.Condition // what waits for the hub
	behind   *health.Condition // the hub has no more than there is here
	store    *health.Condition // answers
	fits     *health.Condition // the hub's server
	streams  *health.Condition // of the hub, as declared
}

// newConditions logs used, the bytes in the store, where they matter.
func newConditions(log zerolog.Logger, used func() uint64) *conditions {
	limit := func(failed string) *health.Condition {
		return health.New(health.Options{
			Component: "leaf", Log: log, Failed: failed, Ended: "the local store takes messages again",
			Fields: func(line *zerolog.Event, _ error) { line.Uint64("used_bytes", used()) },
		})
	}
	return &conditions{
		hubKnown: health.New(health.Options{
			Component: "leaf", Log: log, Warn: true,
			Failed: "the machine went down with the store in use: what the hub has must be known before anything new is stored",
		}),
		room:    limit("the local store is full: nothing is taken, the broker buffers what comes"),
		young:   limit("the oldest message that waits for the hub is over nats.leaf.max_age: nothing is taken, the broker buffers what comes"),
		behind:  limit("the hub claims to have stored more than there is here: nothing is taken and nothing removed"),
		store:   health.New(health.Options{Component: "leaf", Log: log, Failed: "the leaf node's store does not answer", Once: true}),
		fits:    health.New(health.Options{Component: "leaf", Log: log, Failed: "the hub does not fit"}),
		streams: health.New(health.Options{Component: "streams"}), // control logs it
	}
}

// takes reports whether the store takes messages.
func (h *conditions) takes() bool {
	return h.room.Err() == nil && h.young.Err() == nil && h.behind.Err() == nil
}

func (h *conditions) problems() []health.Problem {
	return slices.Concat(h.hubKnown.Problems(), h.room.Problems(), h.young.Problems(), h.behind.Problems(), h.store.Problems(), h.fits.Problems(), h.streams.Problems())
}

// when is err where it is so, and nil where it is not.
func when(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

const seeToTheLink = "see to the link to the hub (leaf in /status), or raise "

var (
	errHubUnknown = advice.With(
		errors.New("the machine went down with the local store in use, and nothing is stored until the hub has said what it has"),
		"make sure that the hub can be reached at nats.url, and that its streams source from here (mqtt-nats-bridge streams plan)")
	errTooOld = advice.With(errors.New("the oldest message has waited for the hub longer than nats.leaf.max_age"), seeToTheLink+"nats.leaf.max_age")
	errAhead  = advice.With(
		errors.New("the hub claims to have stored more than there is in the local store: it was put back from an older copy, or another bridge uses this nats.leaf.domain"),
		"give each bridge its own nats.leaf.domain. For a store that was put back: stop the bridge, keep a copy of nats.leaf.store_dir, publish what the hub lacks from it, and start with an empty one")
)

func errFull(limit config.Bytes) error {
	return advice.With(fmt.Errorf("the local store is full: %s wait for the hub", limit), seeToTheLink+"nats.leaf.max_bytes")
}

// storeError is that the local store could not be read, changed or proven; nil: it could.
func storeError(err error) error {
	if err == nil {
		return nil
	}
	return advice.With(err, "see the disk of nats.leaf.store_dir; nats-server switches JetStream off when that is full: make room and restart the bridge")
}
