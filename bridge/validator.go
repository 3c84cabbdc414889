package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

// validator validates one delivery at a time and keeps the verdict. A lane reuses it for each
// message: its slices alias the delivery and the validator's own buffers. Used only by the reading
// goroutine; no lock.
type validator struct {
	rules   *Rules
	live    *limit.Live
	devices *limit.Budgets
	tenants *limit.Budgets

	limits   *limit.Snapshot // for this message
	topic    []byte          // the device's topic, without the attestation prefix
	route    int
	match    subjects.Match
	attested subjects.Attestation // zero on plain topics
	cn       []byte
	subject  []byte
	escaped  bool // the subject is more than the topic with dots for slashes

	received int64     // by the bridge's clock, ns since the epoch
	clock    int64     // clock of the limits, ns since the epoch
	sender   limit.Ref // the device that the message is charged to
	reason   verdict.Reason
	detail   string

	nameBuf    []byte
	cnBuf      []byte
	subjectBuf []byte
	envelope   []byte
}

func newValidator(o *LaneOptions) *validator {
	return &validator{rules: o.Rules, live: o.Limits, devices: o.Devices, tenants: o.Tenants}
}

// reject sets the verdict. The latest one applies: a topic without a subject is a bad topic,
// whatever else is wrong with the message.
func (v *validator) reject(r verdict.Reason, format string, args ...any) {
	v.reason, v.detail = r, fmt.Sprintf(format, args...)
}

// read validates everything except the rate, which must be charged only once, and finds the device
// that the message is charged to.
func (v *validator) read(d *Delivery) {
	v.limits = v.live.Snapshot()
	v.reason, v.detail = verdict.Accepted, ""
	v.topic, v.subject, v.cn = d.Topic, nil, nil
	v.escaped = false
	v.sender = limit.Ref{}
	v.attested = subjects.Attestation{}
	v.route = -1
	v.received, v.clock = d.ReceivedAt, d.ReceivedAt
	if v.rules.Attested != nil {
		a, rest, err := v.rules.Attested.Cut(d.Topic)
		if errors.Is(err, subjects.ErrNotAttested) {
			v.notSubscribed()
			v.countSender(d)
			return
		}
		if err != nil {
			v.reject(verdict.BadTopic, "the broker's attestation cannot be read: %v", err)
			v.countSender(d)
			return
		}
		v.attested, v.topic = a, rest
		v.clock = limit.Clock(a.Millis, d.ReceivedAt)
		cn, err := subjects.DecodeCN(v.cnBuf[:0], a.CNHex)
		if err != nil {
			v.reject(verdict.CNMissing, "the broker attests no certificate name: %v", err)
		} else {
			v.cnBuf, v.cn = cn, cn
		}
	}
	if !v.mapTopic() {
		v.countSender(d)
		return
	}
	if v.reason == verdict.Accepted {
		v.check(d)
	}
	v.countSender(d)
}

// mapTopic maps the topic to its subject.
func (v *validator) mapTopic() bool {
	route, ok := v.rules.Topics.Match(v.topic, &v.match)
	if !ok {
		if v.rules.Attested == nil && subjects.CheckTopic(v.topic) == nil && !v.rules.Topics.Subscribed(string(v.topic)) {
			v.notSubscribed()
		} else { // a lane subscribes to its whole partition
			v.reject(verdict.BadTopic, "the topic matches no configured pattern")
		}
		return false
	}
	if err := v.match.CheckDevice(); err != nil {
		v.reject(verdict.BadTopic, "%v", err)
		return false
	}
	// If a template omits a capture, topics of any length have short subjects.
	if len(v.topic) > maxTopic {
		v.reject(verdict.BadTopic, "the topic has %d bytes, the maximum is %d", len(v.topic), maxTopic)
		return false
	}
	template := v.rules.Topics.Route(route).Template
	v.subjectBuf = template.Append(v.subjectBuf[:0], &v.match)
	if err := subjects.CheckSubject(v.subjectBuf); err != nil {
		v.reject(verdict.BadTopic, "%v", err)
		return false
	}
	// If a subject begins with a capture, a device could forge quarantined messages, or the claims
	// of a replay.
	if bytes.HasPrefix(v.subjectBuf, []byte(QuarantineSubject+".")) {
		v.reject(verdict.BadTopic, "subject would begin with quarantine, which is reserved for rejected messages")
		return false
	}
	v.route, v.subject = route, v.subjectBuf
	// An escape is longer than the character that it encodes.
	v.escaped = !template.Reversible() || len(v.subject) != len(v.topic)
	return true
}

// notSubscribed rejects a topic that no filter of this configuration matches. The copy gets the
// subject to which the topic maps, so that the stream's per-subject limits apply to each topic
// separately.
func (v *validator) notSubscribed() {
	v.reject(verdict.NotSubscribed, "no configured topic matches it: an earlier subscription of this session still delivers it")
	v.subjectBuf = subjects.AppendSubject(v.subjectBuf[:0], v.topic)
	if subjects.CheckSubject(v.subjectBuf) == nil {
		v.subject = v.subjectBuf
	}
}

// check validates certificate name and payload.
func (v *validator) check(d *Delivery) {
	if v.rules.Attested != nil && !v.owns(v.cn) {
		v.reject(verdict.CNMismatch, "the certificate is that of %s, the topic belongs to %s", excerpt(v.cn), excerpt(v.name()))
		return
	}
	if v.rules.Registry != nil && !v.checkCertificate() {
		return
	}
	// A payload was cut only if its packet exceeds the maximum packet size.
	if limit := min(v.limits.MaxPayload, len(d.Payload)); d.PayloadSize > limit {
		v.reject(verdict.PayloadTooLarge, "a payload of %d bytes is over the limit of %d", d.PayloadSize, limit)
		return
	}
	if v.rules.format(v.route) == Envelope && !v.wrap(d) {
		v.reject(verdict.BadPayload, "%s", notJSON(d.Payload))
	}
}

// owns reports whether cn is exactly tenant/device of the topic, byte for byte.
func (v *validator) owns(cn []byte) bool {
	tenant, device := v.match.Tenant(), v.match.Device()
	return len(cn) == len(tenant)+1+len(device) &&
		bytes.HasPrefix(cn, tenant) && cn[len(tenant)] == '/' && bytes.HasSuffix(cn, device)
}

// name returns tenant/device of the topic.
func (v *validator) name() []byte {
	v.nameBuf = append(v.nameBuf[:0], v.match.Tenant()...)
	v.nameBuf = append(v.nameBuf, '/')
	v.nameBuf = append(v.nameBuf, v.match.Device()...)
	return v.nameBuf
}

// unattested is the entry for messages without an attested sender. It cannot be a device's name,
// because those contain a slash.
var unattested = []byte("unattested")

// countSender finds the entry that the message is charged to: the sender attested by the broker. An
// impostor is charged under its own name, so it cannot use up its victim's budget. A message that
// exceeds the device's subject limit gets no subject, in quarantine either.
func (v *validator) countSender(d *Delivery) {
	name := unattested
	switch {
	case v.rules.Attested != nil && v.cn != nil:
		name = v.cn
	case v.rules.Attested != nil || v.route < 0:
	case !v.match.Pattern().NamesDevice():
		// Each topic has a budget and a quarantine bound of its own.
		v.nameBuf = append(append(v.name(), '/'), v.topic...)
		name = v.nameBuf
	default:
		name = v.name()
	}
	var ok bool
	v.sender, ok = v.devices.ReceiveKind(name, d.ReceivedAt, v.kind(), v.limits.Subjects)
	if ok {
		return
	}
	v.subject = nil
	if v.reason == verdict.Accepted {
		v.reject(verdict.BadTopic, "the device already uses %d subjects, which is its limit", v.limits.Subjects)
	}
}

// kind returns a hash of the subject without the names of tenant and device; 0: no subject.
func (v *validator) kind() uint64 {
	if v.subject == nil || v.limits.Subjects <= 0 {
		return 0
	}
	if v.reason == verdict.CNMismatch || v.reason == verdict.CNMissing || v.reason == verdict.NotSubscribed {
		return v.devices.Hash(v.subject) | 1 // the topic is not the sender's own
	}
	h := uint64(v.route)
	tenant, device := unsafe.SliceData(v.match.Tenant()), unsafe.SliceData(v.match.Device())
	for i := range v.match.Len() {
		capture := v.match.At(i)
		if at := unsafe.SliceData(capture); at != tenant && at != device {
			h = h*0x9e3779b97f4a7c15 + v.devices.Hash(capture)
		}
	}
	return h | 1
}

// chargeQuarantine counts the rejection and reports whether the device's bound allows a copy in
// quarantine.
func (v *validator) chargeQuarantine(d *Delivery) bool {
	size := len(v.keptPayload(d)) + min(len(v.topic), subjects.MaxSubjectBytes)
	return v.devices.Reject(v.sender, v.reason, v.limits.OfQuarantine().Meter, v.clock, size)
}

// charge charges the message to the budgets of its device and its tenant.
func (v *validator) charge(credit int64) {
	if v.reason != verdict.Accepted {
		return
	}
	device := v.limits.OfDevice(v.match.Tenant(), v.match.Device())
	if !v.devices.Take(v.sender, device.Meter, v.clock, credit) {
		v.reject(verdict.RateLimited, "the device sends more than %g messages per second (burst %d)",
			device.Rate.Rate, device.Burst)
		return
	}
	tenant := v.limits.OfTenant(v.match.Tenant())
	if tenant.Unlimited() {
		return
	}
	if !v.chargeTenant(tenant.Meter) {
		v.devices.Refund(v.sender, device.Meter)
		v.reject(verdict.TenantRateLimited, "the tenant's devices together send more than %g messages per second (burst %d)",
			tenant.Rate.Rate, tenant.Burst)
	}
}

// chargeTenant charges the message to the tenant's budget. All lanes share it. On plain topics it
// reaches as far back as any lane still has to catch up.
func (v *validator) chargeTenant(m limit.Meter) bool {
	tenant := v.tenants.Receive(v.match.Tenant(), v.received)
	if v.rules.Attested == nil {
		return v.tenants.Take(tenant, m, v.clock, v.tenants.LongestCredit())
	}
	return v.tenants.TakeDated(tenant, m, max(v.clock, v.received-limit.HistoryReach))
}
