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

// visitor is the device whose certificate the user can use with mosquitto_pub. No simulated device
// has this name, so its messages can be counted separately.
const visitor = "acme/dev-1"

// role describes one simulated device: its identity and its messages.
type role struct {
	cn     string // of its certificate; empty: a certificate without one
	client string // MQTT client id
	// breaks is the reason for which its messages are refused; with rate_limited only some are.
	// Accepted: a well-behaved device.
	breaks verdict.Reason
	every  time.Duration
	window int // messages in flight; 0: 1
	// message returns the n-th message, from 0.
	message func(n int) (topic string, payload []byte)
}

// cast returns the roles of the demo: the well-behaved devices, then one misbehaving device for each
// reason that needs no registry.
func cast(o Options) []role {
	roles := wellBehaved(o)
	victim := roles[0].cn
	typo := subjectTooLong()
	roles = append(roles,
		role{
			cn: "globex/impostor", breaks: verdict.CNMismatch, every: time.Second,
			message: func(n int) (string, []byte) { return topicOf(victim, "telemetry"), reading(n) },
		},
		role{
			cn: "acme/chatterbox", breaks: verdict.RateLimited,
			window:  100, // large, so that a slow broker does not limit the rate
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

func wellBehaved(o Options) []role {
	tenants := []string{"acme", "globex", "initech"}
	every := time.Duration(float64(time.Second) / o.Rate)
	var all []role
	for i := range o.Devices {
		cn := fmt.Sprintf("%s/pump-%d", tenants[i%len(tenants)], i/len(tenants)+1)
		if i == len(tenants)-1 {
			// A space and a dot are valid in a topic level, but not in a subject token.
			cn = "initech/boiler 7.b"
		}
		all = append(all, role{cn: cn, every: every, message: mixed(cn)})
	}
	return all
}

// provoked returns the reasons for which messages of the roles are refused.
func provoked(roles []role) []verdict.Reason {
	var reasons []verdict.Reason
	for _, reason := range verdict.Reasons() {
		if slices.ContainsFunc(roles, func(r role) bool { return r.breaks == reason }) {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// mixed returns the messages of a well-behaved device: telemetry, and sometimes its shadow or a
// command acknowledgement.
func mixed(cn string) func(int) (string, []byte) {
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

// subjectTooLong returns a topic that is valid in MQTT but too long for a subject.
func subjectTooLong() string {
	return topicOf("globex/typo", strings.Repeat("x", subjects.MaxSubjectBytes))
}
