package broker

import (
	"crypto/tls"
	"errors"
	"math"
	"time"
)

// Options describe the broker. The zero value is a plain broker on a free port of
// 127.0.0.1 that lets anyone in and rewrites nothing.
//
// Where a field names a row (E1 to E12), docs/emqx.md describes what EMQX 5.8.9
// does there. The zero value of each switch is EMQX with the files of deploy/emqx,
// started up and with the devices' listener open; it leaves out the rate limit and
// DeviceACL, which would keep from the bridge what its own checks are tested with.
type Options struct {
	// Listen is the plain listener's address; empty: a free port of 127.0.0.1.
	Listen string
	// TLS opens the devices' listener; it must demand client certificates.
	TLS *tls.Config
	// ListenTLS is its address; empty: a free port of 127.0.0.1.
	ListenTLS string

	// Username and Password are the service account of the plain listener;
	// with an empty Username anyone may connect there.
	Username, Password string
	// DeviceUsernames treats every client of the plain listener that gives a
	// user name other than Username as a device with that CN on the devices'
	// listener, without a password: devices without the cost of TLS.
	DeviceUsernames bool

	// Attest republishes device messages under their attested topics.
	Attest bool
	// AnyCN leaves out the rule's WHERE clause, so that the bridge gets to see
	// what the broker would have kept back. A missing user name is rendered as
	// "undefined".
	AnyCN bool
	// DeviceACL confines each device to the topics of its own CN (E11). Without
	// it a device may use every topic but the attested ones.
	DeviceACL bool
	// Tamper may change an attestation before it is rendered: a broker that is
	// wrong. Called from many goroutines.
	Tamper func(*Attestation)
	// Prefix of attested topics; empty: bridge/v1.
	Prefix string
	// Now gives attested topics their time; nil: time.Now.
	Now func() time.Time

	// Unloaded lists what is missing when the listeners open, until
	// [Broker.Load] (E1, E3).
	Unloaded Part
	// Gate refuses devices until [Broker.OpenGate] (E1).
	Gate bool
	// DenyIgnored is deny_action = ignore: a denied PUBLISH is acknowledged and
	// dropped, a denied SUBSCRIBE is answered with 0x80. Without it both close
	// the connection (E1, E3).
	DenyIgnored bool
	// AuthzCache is how long a connection keeps an answer of the ACL; 0: it is
	// asked each time (E1).
	AuthzCache time.Duration

	// GlobalClientIDs leaves out clientid_override: a device's client id is the
	// one it asks for, also that of a lane (E2). Without it the client id is
	// CN/clientid.
	GlobalClientIDs bool
	// Services and Devices are the zones of the two listeners (E2, E7).
	Services, Devices Zone

	// MessagesRate limits what each device publishes, in messages per second;
	// 0: no limit. A device above it is read in lumps (E4).
	MessagesRate float64
	// Pause waits for the rate limit; nil: in real time.
	Pause func(time.Duration)

	// WillAttributes gives the rule a will's client_attrs and the CN. Without it
	// a will is never attested (E6).
	WillAttributes bool

	// Share picks the member of a $share group (E8).
	Share ShareStrategy
	// TakeoverRace is how long after the start of a session takeover publishers
	// may still send to the session's former process: the next message of each
	// is lost where the subscription is a plain one, and in no counter of EMQX's.
	// 0: CPU to spare, nothing is lost (E8).
	TakeoverRace time.Duration
}

// Zone contains the limits of a listener's clients.
type Zone struct {
	// MaxInflight is how many messages wait for a PUBACK at a time; 0: 1,000
	// for services, 32 for devices.
	MaxInflight int
	// MaxQueue is how many messages wait behind them, or for the client to come
	// back; a full queue drops the oldest. A session keeps the limit of the zone
	// that it was created in. 0: 200,000 for services, 1,000 for devices.
	MaxQueue int
	// MaxPacket is the largest packet that a client may send, in bytes; a larger
	// one closes the connection. 0: 2 MiB for services, 1 MiB for devices.
	MaxPacket uint32
}

// DefaultZone is what EMQX gives to the clients of a listener without a zone (E7).
func DefaultZone() Zone { return Zone{MaxInflight: 32, MaxQueue: 1000, MaxPacket: 1 << 20} }

// servicesZone is zones.bridge in deploy/emqx/emqx.conf.
func servicesZone() Zone { return Zone{MaxInflight: 1000, MaxQueue: 200_000, MaxPacket: 2 << 20} }

func (z *Zone) setDefaults(d Zone) {
	if z.MaxInflight == 0 {
		z.MaxInflight = d.MaxInflight
	}
	if z.MaxQueue == 0 {
		z.MaxQueue = d.MaxQueue
	}
	if z.MaxPacket == 0 {
		z.MaxPacket = d.MaxPacket
	}
	z.MaxInflight = min(z.MaxInflight, math.MaxUint16)
}

// Part is a part of the configuration that EMQX loads after it opened its
// listeners. Parts can be combined.
type Part uint32

const (
	// Authentication is the delay until it is loaded; until then services are refused (CONNACK 5).
	Authentication Part = 1 << iota
	// ACL is the delay until it is loaded; until then no_match = deny applies.
	ACL
	// Rule is the delay until it is loaded; until then nothing is attested.
	Rule
	// Everything combines all parts.
	Everything = Authentication | ACL | Rule
)

// ShareStrategy is how EMQX picks the member of a $share group.
type ShareStrategy int

const (
	// HashClientID picks by the publisher's client id. That of attested messages
	// is the rule's, so one member gets them all.
	HashClientID ShareStrategy = iota
	// RoundRobin picks the members in turn.
	RoundRobin
)

// String is EMQX's word for it.
func (s ShareStrategy) String() string {
	if s == RoundRobin {
		return "round_robin"
	}
	return "hash_clientid"
}

func (o *Options) setDefaults() error {
	if o.TLS != nil && o.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return errors.New("open device listener: its TLS configuration does not demand a verified client certificate")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.ListenTLS == "" {
		o.ListenTLS = "127.0.0.1:0"
	}
	if o.Prefix == "" {
		o.Prefix = "bridge/v1"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Services.setDefaults(servicesZone())
	o.Devices.setDefaults(DefaultZone())
	return nil
}
