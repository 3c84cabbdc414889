package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"time"
	"unsafe"

	"mqtt-nats-bridge/subjects"
)

// judge holds the verdict on one delivery while it is made, and what follows
// from it. A lane has one and uses it again for each message: its slices alias
// the delivery and the judge's own buffers. The reading goroutine alone uses it.
type judge struct {
	rules   *Rules
	live    *LiveLimits
	devices *Devices
	tenants *Devices

	limits   *limitSet // in force for this message
	topic    []byte    // the device's topic: without the attestation
	route    int
	match    subjects.Match
	attested subjects.Attestation // zero on plain topics
	cn       []byte
	subject  []byte
	escaped  bool // the subject is not the topic with dots

	received int64     // by the bridge's clock, ns since the epoch
	clock    int64     // of the limits, ns since the epoch
	sender   deviceRef // whom the message counts for
	reason   Reason
	detail   string

	nameBuf    []byte
	cnBuf      []byte
	subjectBuf []byte
	envelope   []byte
}

func newJudge(o *LaneOptions) *judge {
	return &judge{rules: o.Rules, live: o.Limits, devices: o.Devices, tenants: o.Tenants}
}

const (
	// maxAhead is how far the limiter's clock may be ahead of the bridge's. A
	// broker node whose clock is further ahead is not believed: what its messages
	// spent would be missing until then.
	maxAhead = time.Second
	// farAhead is the least step of a clock that is taken for its being set.
	farAhead = 5 * time.Minute
)

// reject sets the verdict. The latest stands: what has no subject is a bad topic,
// whatever else is wrong with it.
func (j *judge) reject(r Reason, format string, args ...any) {
	j.reason, j.detail = r, fmt.Sprintf(format, args...)
}

// read finds out what the message is and who sent it: everything but the rate,
// which must be charged once only.
func (j *judge) read(d *Delivery) {
	j.limits = j.live.current.Load()
	j.reason, j.detail = Accepted, ""
	j.topic, j.subject, j.cn = d.Topic, nil, nil
	j.escaped = false
	j.sender = deviceRef{}
	j.attested = subjects.Attestation{}
	j.route = -1
	j.received, j.clock = d.ReceivedAt, d.ReceivedAt
	if j.rules.Attested != nil {
		a, rest, err := j.rules.Attested.Cut(d.Topic)
		if errors.Is(err, subjects.ErrNotAttested) {
			j.notSubscribed()
			j.count(d)
			return
		}
		if err != nil {
			j.reject(BadTopic, "the broker's attestation cannot be read: %v", err)
			j.count(d)
			return
		}
		j.attested, j.topic = a, rest
		j.clock = limiterTime(a.Millis, d.ReceivedAt)
		cn, err := subjects.DecodeCN(j.cnBuf[:0], a.CNHex)
		if err != nil {
			j.reject(CNMissing, "the broker vouches for no certificate name: %v", err)
		} else {
			j.cnBuf, j.cn = cn, cn
		}
	}
	if !j.locate() {
		j.count(d)
		return
	}
	if j.reason == Accepted {
		j.check(d)
	}
	j.count(d)
}

// limiterTime is the time that limits go by for a message that the broker received
// at that time, in ms, and the bridge at now, in ns: after an outage the backlog
// comes all at once but was sent evenly. A clock too far ahead is not believed.
func limiterTime(millis, now int64) int64 {
	if millis > (now+int64(maxAhead))/1e6 {
		return now
	}
	return millis * 1e6
}

// locate finds the topic's subject.
func (j *judge) locate() bool {
	route, ok := j.rules.Topics.Match(j.topic, &j.match)
	if !ok {
		if j.rules.Attested == nil && subjects.CheckTopic(j.topic) == nil && !j.rules.Topics.Subscribed(string(j.topic)) {
			j.notSubscribed()
		} else { // a lane takes its whole partition
			j.reject(BadTopic, "the topic matches none of the configured ones")
		}
		return false
	}
	if err := j.match.CheckDevice(); err != nil {
		j.reject(BadTopic, "%v", err)
		return false
	}
	// A template that leaves a capture out has short subjects for topics of any length.
	if len(j.topic) > maxTopic {
		j.reject(BadTopic, "the topic has %d bytes, %d at most are stored", len(j.topic), maxTopic)
		return false
	}
	template := j.rules.Topics.Route(route).Template
	j.subjectBuf = template.Append(j.subjectBuf[:0], &j.match)
	if err := subjects.CheckSubject(j.subjectBuf); err != nil {
		j.reject(BadTopic, "%v", err)
		return false
	}
	// A capture may begin a subject: there a device would write what looks rejected,
	// or the notes of a replay.
	if bytes.HasPrefix(j.subjectBuf, []byte(QuarantineSubject+".")) {
		j.reject(BadTopic, "subject would begin with quarantine, where rejected messages go")
		return false
	}
	j.route, j.subject = route, j.subjectBuf
	// An escape is longer than what it stands for.
	j.escaped = !template.Reversible() || len(j.subject) != len(j.topic)
	return true
}

// notSubscribed rejects a topic that no filter of this configuration takes. The copy
// gets the subject that the topic maps to, so that the stream's limits per subject
// apply to each topic and not to all of them together.
func (j *judge) notSubscribed() {
	j.reject(NotSubscribed, "no configured topic takes it: an earlier subscription of this session still delivers it")
	j.subjectBuf = subjects.AppendSubject(j.subjectBuf[:0], j.topic)
	if subjects.CheckSubject(j.subjectBuf) == nil {
		j.subject = j.subjectBuf
	}
}

// check holds payload and name against the rules.
func (j *judge) check(d *Delivery) {
	if j.rules.Attested != nil && !j.owns(j.cn) {
		j.reject(CNMismatch, "the certificate is that of %s, the topic belongs to %s", excerpt(j.cn), excerpt(j.name()))
		return
	}
	if j.rules.Registry != nil && !j.certified() {
		return
	}
	// A payload that came cut is over the limit of the packet size.
	if limit := min(j.limits.MaxPayload, len(d.Payload)); d.PayloadSize > limit {
		j.reject(PayloadTooLarge, "a payload of %d bytes is over the limit of %d", d.PayloadSize, limit)
		return
	}
	if j.rules.format(j.route) == Envelope && !j.wrap(d) {
		j.reject(BadPayload, "%s", notJSON(d.Payload))
	}
}

// owns tells whether cn is exactly tenant/device of the topic, byte for byte.
func (j *judge) owns(cn []byte) bool {
	tenant, device := j.match.Tenant(), j.match.Device()
	return len(cn) == len(tenant)+1+len(device) &&
		bytes.HasPrefix(cn, tenant) && cn[len(tenant)] == '/' && bytes.HasSuffix(cn, device)
}

// name is tenant/device of the topic.
func (j *judge) name() []byte {
	j.nameBuf = append(j.nameBuf[:0], j.match.Tenant()...)
	j.nameBuf = append(j.nameBuf, '/')
	j.nameBuf = append(j.nameBuf, j.match.Device()...)
	return j.nameBuf
}

// unattested is whom messages count for that nobody vouches for. It is no
// device's name: those have a slash.
var unattested = []byte("unattested")

// count finds the entry that the message counts for: the device that the broker
// says sent it. An impostor is counted under its own name, so that it cannot use
// up what its victim may send. A message under one subject more than a device may
// use has none, not in quarantine either.
func (j *judge) count(d *Delivery) {
	name := unattested
	switch {
	case j.rules.Attested != nil && j.cn != nil:
		name = j.cn
	case j.rules.Attested != nil || j.route < 0:
	case !j.match.Pattern().NamesDevice():
		// Each topic has a budget and a quarantine bound of its own.
		j.nameBuf = append(append(j.name(), '/'), j.topic...)
		name = j.nameBuf
	default:
		name = j.name()
	}
	var ok bool
	j.sender, ok = j.devices.receiveKind(name, d.ReceivedAt, j.kind(), j.limits.Subjects)
	if ok {
		return
	}
	j.subject = nil
	if j.reason == Accepted {
		j.reject(BadTopic, "the device has used %d subjects, no more are allowed to it", j.limits.Subjects)
	}
}

// kind is what the subject is without the names of tenant and device; 0: there is
// none.
func (j *judge) kind() uint64 {
	if j.subject == nil || j.limits.Subjects <= 0 {
		return 0
	}
	seed := j.devices.seed
	if j.reason == CNMismatch || j.reason == CNMissing || j.reason == NotSubscribed {
		return maphash.Bytes(seed, j.subject) | 1 // of another device's, or of nobody's
	}
	h := uint64(j.route)
	tenant, device := unsafe.SliceData(j.match.Tenant()), unsafe.SliceData(j.match.Device())
	for i := range j.match.Len() {
		capture := j.match.At(i)
		if at := unsafe.SliceData(capture); at != tenant && at != device {
			h = h*0x9e3779b97f4a7c15 + maphash.Bytes(seed, capture)
		}
	}
	return h | 1
}

// reported counts the rejection and tells whether the device's bound allows a copy
// in quarantine.
func (j *judge) reported(d *Delivery) bool {
	size := len(j.kept(d)) + min(len(j.topic), subjects.MaxSubjectBytes)
	return j.devices.reject(j.sender, j.reason, j.limits.quarantine.meter, j.clock, size)
}

// charge takes the message off its device's and its tenant's budget.
func (j *judge) charge(credit int64) {
	if j.reason != Accepted {
		return
	}
	device := j.limits.ofDevice(j.match.Tenant(), j.match.Device())
	if !j.devices.take(j.sender, device.meter, j.clock, credit) {
		j.reject(RateLimited, "the device sends more than %g messages per second (burst %d)",
			device.Rate.Rate, device.Burst)
		return
	}
	whole := j.limits.ofTenant(j.match.Tenant())
	if whole.interval == 0 {
		return
	}
	if !j.chargeTenant(whole.meter) {
		j.devices.refund(j.sender, device.meter)
		j.reject(TenantRateLimited, "the tenant's devices together send more than %g messages per second (burst %d)",
			whole.Rate.Rate, whole.Burst)
	}
}

// chargeTenant takes the message off its tenant's budget. On plain topics that
// reaches as far back as any lane still has to catch up: they share the budget.
func (j *judge) chargeTenant(m meter) bool {
	tenant := j.tenants.receive(j.match.Tenant(), j.received)
	if j.rules.Attested == nil {
		return j.tenants.take(tenant, m, j.clock, j.tenants.arrears.longest.Load())
	}
	return j.tenants.takeDated(tenant, m, max(j.clock, j.received-historyReach))
}
