package broker

import (
	"cmp"
	"crypto/tls"
	"errors"
	"math"
	"time"
)

// Options configures the broker. The zero value is a plain broker on a free port of 127.0.0.1 that
// accepts every client and republishes nothing.
//
// If a field refers to a row (E1 to E12), docs/emqx.md describes the behaviour of EMQX 5.8.9. The
// zero value of each switch corresponds to EMQX with the files of deploy/emqx, fully started and with
// the devices' listener open. The rate limit and DeviceACL are off by default, because they would
// keep messages from the bridge that test the bridge's own checks.
type Options struct {
	// Listen is the plain listener's address; empty: a free port of 127.0.0.1.
	Listen string
	// TLS opens the devices' listener. It must require client certificates.
	TLS *tls.Config
	// ListenTLS is the devices' listener's address; empty: a free port of 127.0.0.1.
	ListenTLS string

	// Username and Password are the service account of the plain listener. With an empty Username,
	// any client may connect there.
	Username, Password string
	// DeviceUsernames treats a client of the plain listener with any other user name as a device
	// with that CN. The client needs no password. This saves tests the cost of TLS.
	DeviceUsernames bool

	// Attest republishes device messages under their attested topics.
	Attest bool
	// AnyCN omits the rule's WHERE clause, so that the bridge receives messages that the broker
	// would otherwise withhold. A missing user name is rendered as "undefined".
	AnyCN bool
	// DeviceACL restricts each device to the topics of its own CN (E11). Without it, a device may
	// use every topic except the attested ones.
	DeviceACL bool
	// Tamper can change an attestation before it is rendered, to simulate a faulty broker. It is
	// called from many goroutines.
	Tamper func(*Attestation)
	// Prefix is the prefix of attested topics; empty: bridge/v1.
	Prefix string
	// Now returns the time in attested topics; nil: time.Now.
	Now func() time.Time

	// Unloaded contains the parts that are not loaded when the listeners open, until [Broker.Load]
	// (E1, E3).
	Unloaded Part
	// Gate refuses devices until [Broker.OpenGate] (E1).
	Gate bool
	// DenyIgnored means deny_action = ignore: a denied PUBLISH is acknowledged and dropped, and a
	// denied SUBSCRIBE gets return code 0x80. Without it, both close the connection (E1, E3).
	DenyIgnored bool
	// AuthzCache is how long a connection caches an ACL decision; 0: no cache (E1).
	AuthzCache time.Duration

	// GlobalClientIDs omits clientid_override: a device gets the client id that it asks for, even
	// that of a lane (E2). Without it, the client id is CN/clientid.
	GlobalClientIDs bool
	// Services and Devices are the zones of the two listeners (E2, E7).
	Services, Devices Zone

	// MessagesRate limits each device's publishes, in messages per second; 0: no limit. The broker
	// reads from a device above the limit in chunks (E4).
	MessagesRate float64
	// Pause waits for the rate limit; nil: real time.
	Pause func(time.Duration)

	// WillAttributes provides the rule with client_attrs and the CN for a will. Without it, a will
	// is never attested (E6).
	WillAttributes bool

	// Share selects how the member of a $share group is picked (E8).
	Share ShareStrategy
	// TakeoverRace simulates a session takeover on an overloaded EMQX: for this long, publishers
	// still send to the session's former process. The next message of each publisher is lost if the
	// subscription is plain, and no counter of EMQX includes it. 0: nothing is lost (E8).
	TakeoverRace time.Duration
}

// Zone contains the limits of a listener's clients.
type Zone struct {
	// MaxInflight is the maximum number of messages that wait for a PUBACK; 0: 1,000 for services,
	// 32 for devices.
	MaxInflight int
	// MaxQueue is the maximum number of messages in the queue behind them, also while the client is
	// disconnected. A full queue drops its oldest message. A session keeps the limit of the zone
	// where it was created. 0: 200,000 for services, 1,000 for devices.
	MaxQueue int
	// MaxPacket is the largest packet that a client may send, in bytes. A larger one closes the
	// connection. 0: 2 MiB for services, 1 MiB for devices.
	MaxPacket uint32
}

// DefaultZone returns EMQX's limits for the clients of a listener without a zone (E7).
func DefaultZone() Zone { return Zone{MaxInflight: 32, MaxQueue: 1000, MaxPacket: 1 << 20} }

// servicesZone returns the limits of zones.bridge in deploy/emqx/emqx.conf.
func servicesZone() Zone { return Zone{MaxInflight: 1000, MaxQueue: 200_000, MaxPacket: 2 << 20} }

func (z *Zone) setDefaults(d Zone) {
	z.MaxInflight = min(cmp.Or(z.MaxInflight, d.MaxInflight), math.MaxUint16)
	z.MaxQueue = cmp.Or(z.MaxQueue, d.MaxQueue)
	z.MaxPacket = cmp.Or(z.MaxPacket, d.MaxPacket)
}

// Part is a part of the configuration that EMQX loads after it has opened its listeners. Parts can be
// combined.
type Part uint32

const (
	// Authentication is the user database. Until it is loaded, services are refused with CONNACK 5.
	Authentication Part = 1 << iota
	// ACL is the access control list. Until it is loaded, no_match = deny applies.
	ACL
	// Rule is the attesting rule. Until it is loaded, no message is attested.
	Rule
	// Everything combines all parts.
	Everything = Authentication | ACL | Rule
)

// ShareStrategy selects how the broker picks the member of a $share group.
type ShareStrategy int

const (
	// HashClientID picks the member by the publisher's client id. All attested messages have the
	// rule's client id, so one member gets all of them.
	HashClientID ShareStrategy = iota
	// RoundRobin picks the members in turn.
	RoundRobin
)

// String returns EMQX's name of the strategy.
func (s ShareStrategy) String() string {
	if s == RoundRobin {
		return "round_robin"
	}
	return "hash_clientid"
}

func (o *Options) setDefaults() error {
	if o.TLS != nil && o.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return errors.New("open device listener: its TLS configuration does not require a verified client certificate")
	}
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:0")
	o.ListenTLS = cmp.Or(o.ListenTLS, "127.0.0.1:0")
	o.Prefix = cmp.Or(o.Prefix, "bridge/v1")
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Services.setDefaults(servicesZone())
	o.Devices.setDefaults(DefaultZone())
	return nil
}
