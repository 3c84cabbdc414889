package proof

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/wire"
)

// PacketID returns the packet id of the nth PUBLISH.
func PacketID(packet int) uint16 { return uint16(packet%65535 + 1) }

// Device returns the tenant and the name of device i. The devices are spread over ten tenants.
func Device(i int) (tenant, name string) { return fmt.Sprintf("t%d", i%10), fmt.Sprintf("d%05d", i) }

func (l *Load) appendPublish(b []byte, o outgoing) []byte {
	flags := byte(wire.QoS1)
	if o.dup {
		flags |= wire.Dup
	}
	return wire.AppendPublish(b, flags, l.topic(o.message, o.before), o.packetID, l.payload(o.message))
}

// topic returns the topic of a message. The broker's rule gives each PUBLISH its own id, including
// a resend.
func (l *Load) topic(message int, before uint8) string {
	tenant, name := Device(message % l.Devices)
	topic := "tenant/" + tenant + "/device/" + name + "/" + l.Topic
	if l.Attested {
		attested := broker.Attest("bridge/v1", fmt.Sprintf("%s%08X%08X", l.run, before, message), time.Now(), tenant+"/"+name, topic)
		return attested.Render()
	}
	return topic
}

// payload returns the payload of a message. It begins with the message's number, unless all
// payloads are identical.
func (l *Load) payload(message int) []byte {
	if l.JSON {
		p := fmt.Appendf(nil, `{"version":%d,"reported":{"n":%d},"pad":"`, message, message)
		return append(append(p, bytes.Repeat([]byte("x"), max(0, l.Size-len(p)-2))...), `"}`...)
	}
	p := make([]byte, max(l.Size, 8))
	for i := range p {
		p[i] = byte(i)
	}
	if l.Identical {
		message = 0
	}
	binary.BigEndian.PutUint64(p, uint64(message))
	return p
}
