package demo

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

// visitor is the device whose certificate lies ready for mosquitto_pub. No
// simulated device has its name, so its messages can be told apart.
const visitor = "acme/dev-1"

// role is one device: who it is and what it sends.
type role struct {
	cn     string // of its certificate; empty: a certificate without one
	client string // MQTT client id
	// breaks is the reason that its messages are refused for, some of them in
	// the case of rate_limited; Accepted: an honest device.
	breaks verdict.Reason
	every  time.Duration
	window int // messages in flight; 0: 1
	// message is its n-th publish, from 0.
	message func(n int) (topic string, payload []byte)
}

// cast is everybody in the demo: the honest devices, then one offender for each
// reason that needs no registry.
func cast(o Options) []role {
	roles := honest(o)
	victim := roles[0].cn
	typo := subjectTooLong()
	roles = append(roles,
		role{
			cn: "globex/impostor", breaks: verdict.CNMismatch, every: time.Second,
			message: func(n int) (string, []byte) { return topicOf(victim, "telemetry"), reading(n) },
		},
		role{
			cn: "acme/chatterbox", breaks: verdict.RateLimited,
			window:  100, // it does not wait for a broker that is slow
			every:   time.Duration(float64(time.Second) / (5 * o.limit())),
			message: telemetry("acme/chatterbox"),
		},
		role{
			cn: "globex/typo", breaks: verdict.BadTopic, every: time.Second,
			message: func(n int) (string, []byte) {
				if n%2 == 1 {
					return typo, reading(n)
				}
				return "tenant/globex/device//telemetry", reading(n)
			},
		},
		role{
			cn: "initech/camera", breaks: verdict.PayloadTooLarge, every: time.Second,
			message: func(int) (string, []byte) {
				return topicOf("initech/camera", "frame"), bytes.Repeat([]byte{0xFF}, maxPayload+1024)
			},
		},
		role{
			cn: "", client: "nameless", breaks: verdict.CNMissing, every: time.Second,
			message: telemetry("acme/nameless"),
		},
	)
	for i := range roles {
		if roles[i].client == "" {
			roles[i].client = roles[i].cn
		}
	}
	return roles
}

func honest(o Options) []role {
	tenants := []string{"acme", "globex", "initech"}
	every := time.Duration(float64(time.Second) / o.Rate)
	var all []role
	for i := range o.Devices {
		cn := fmt.Sprintf("%s/pump-%d", tenants[i%len(tenants)], i/len(tenants)+1)
		if i == len(tenants)-1 {
			// A space and a dot are legal in MQTT and not in a subject.
			cn = "initech/boiler 7.b"
		}
		all = append(all, role{cn: cn, every: every, message: daily(cn)})
	}
	return all
}

// provoked lists the reasons that the cast's offenders are refused for.
func provoked(roles []role) []verdict.Reason {
	var reasons []verdict.Reason
	for _, reason := range verdict.Reasons() {
		if slices.ContainsFunc(roles, func(r role) bool { return r.breaks == reason }) {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// daily is an honest device's mix: telemetry, now and then its shadow or the
// answer to a command.
func daily(cn string) func(int) (string, []byte) {
	return func(n int) (string, []byte) {
		switch {
		case n%10 == 3:
			return topicOf(cn, "shadow/reported"), fmt.Appendf(nil, `{"firmware":"1.4.2","n":%d}`, n)
		case n%25 == 6:
			return topicOf(cn, "commands/ack"), fmt.Appendf(nil, `{"command_id":"c-%d","status":"done"}`, n)
		default:
			return topicOf(cn, "telemetry"), reading(n)
		}
	}
}

func telemetry(cn string) func(int) (string, []byte) {
	return func(n int) (string, []byte) { return topicOf(cn, "telemetry"), reading(n) }
}

func reading(n int) []byte {
	return fmt.Appendf(nil, `{"t":%.1f,"n":%d}`, 20+float64(n%50)/10, n)
}

func topicOf(cn, kind string) string {
	tenant, device, _ := strings.Cut(cn, "/")
	return "tenant/" + tenant + "/device/" + device + "/" + kind
}

// subjectTooLong is a topic short enough for MQTT and too long for a subject.
func subjectTooLong() string {
	return topicOf("globex/typo", strings.Repeat("x", subjects.MaxSubjectBytes))
}
