package brokers

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// bystander is a second subscriber. It records the broker's first deliveries in order.
type bystander struct {
	mu      sync.Mutex
	seen    map[uint64]bool
	subject map[string][]uint64 // message numbers
}

func (w *bystander) take(_ paho.Client, m paho.Message) {
	if len(m.Payload()) < 8 {
		return // a marker
	}
	n := binary.BigEndian.Uint64(m.Payload())
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.seen[n] {
		w.seen[n] = true
		s := strings.ReplaceAll(m.Topic(), "/", ".")
		w.subject[s] = append(w.subject[s], n)
	}
}

func (w *bystander) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

func startBystander(t testing.TB, url string) *bystander {
	t.Helper()
	w := &bystander{seen: map[uint64]bool{}, subject: map[string][]uint64{}}
	o := paho.NewClientOptions().AddBroker(url).SetClientID("bystander").SetCleanSession(false).
		SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).SetMaxReconnectInterval(200 * time.Millisecond).
		SetDefaultPublishHandler(w.take)
	c := paho.NewClient(o)
	proof.AwaitToken(t, c.Connect())
	proof.AwaitToken(t, c.Subscribe("tenant/+/device/+/telemetry", 1, w.take))
	t.Cleanup(func() { c.Disconnect(0) })
	return w
}

// After a broker restart, a publisher resends its unacknowledged messages. Some clients resend
// them in random order: paho.golang's default store is a map. The bridge keeps the order in
// which the broker delivers.
func TestBrokerOrder(t *testing.T) {
	t.Parallel()
	times := 3
	if testrun.Quick() {
		times = 1
	}
	for name, store := range map[string]func() paho.Store{
		"publisher resumes in any order": func() paho.Store { return paho.NewMemoryStore() },
		"publisher resumes in order":     func() paho.Store { return paho.NewOrderedMemoryStore() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := proof.NewRig(t, proof.RigOptions{})
			w := startBystander(t, r.Broker.URL)
			o := paho.NewClientOptions().AddBroker(r.Broker.URL).SetClientID("publisher").SetCleanSession(false).SetStore(store()).
				SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).SetMaxReconnectInterval(200 * time.Millisecond)
			c := paho.NewClient(o)
			proof.AwaitToken(t, c.Connect())
			t.Cleanup(func() { c.Disconnect(0) })
			const devices, each = 20, 400
			l := proof.NewLoad(proof.LoadOptions{Devices: devices, Topic: "telemetry", Total: times * 2 * each})
			publish := func() {
				for range each {
					// The token fails if its connection ends; the message stays in the store.
					topic, payload := l.Next()
					c.Publish(topic, 1, false, payload)
				}
			}
			for range times {
				publish()
				r.Broker.Stop()
				proof.Eventually(t, func() bool { return !c.IsConnectionOpen() }, func() any { return "connected" })
				publish() // stays in the publisher's store
				r.Broker.Start()
				proof.Eventually(t, func() bool { return w.count() == l.Sent() }, func() any { return w.count() })
			}
			proof.MarkOn(t, r.Addr, r.Marker)
			proof.AwaitMarker(t, r.JS)
			all := proof.ReadLoad(t, r.JS, "TELEMETRY")
			have := firsts(all)
			require.Equal(t, len(w.subject), len(have), "subjects")
			for subject, want := range w.subject {
				require.True(t, slices.Equal(want, have[subject]), "%s: %d messages, %d stored, or another order", subject, len(want), len(have[subject]))
			}
			t.Logf("%d messages, by the publisher's order %d behind a later one", l.Sent(), l.Reconcile(all).Inversions)
		})
	}
}

// firsts returns each subject's messages in the order of their first copies.
func firsts(all []proof.Stored) map[string][]uint64 {
	seen, of := map[uint64]bool{}, map[string][]uint64{}
	for _, s := range all {
		if !seen[s.Message] {
			seen[s.Message] = true
			of[s.Subject] = append(of[s.Subject], s.Message)
		}
	}
	return of
}
