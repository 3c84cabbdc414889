package main

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"mqtt-nats-bridge/internal/wire"
)

// inFlight is the maximum number of PUBLISH packets without a PUBACK.
const inFlight = 500

// publisher is a device gateway: one MQTT client that publishes numbered messages of many devices
// at QoS 1. After a reconnect it resends unacknowledged messages, in order and with DUP set.
type publisher struct {
	address string
	client  string
	topic   string // with %d for the device
	size    int
	devices int
	first   int // number of the first message

	mu      sync.Mutex
	room    *sync.Cond
	unacked []int // numbers, oldest first; the packet id is the number modulo 65,535
}

// run publishes the messages first to messages-1 and returns when all have a PUBACK.
func (p *publisher) run(messages int) {
	p.room = sync.NewCond(&p.mu)
	next := p.first
	for {
		conn, err := p.connect()
		if err == nil {
			next, err = p.publish(conn, next, messages)
			conn.Close()
		}
		if err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *publisher) connect() (net.Conn, error) {
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		return nil, err
	}
	if _, err := (&wire.Connect{ClientID: p.client, KeepSession: true}).Handshake(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// publish returns a nil error when every message has its PUBACK. Otherwise it returns the number of
// the message to continue with.
func (p *publisher) publish(conn net.Conn, next, messages int) (int, error) {
	var failed error
	done := make(chan struct{})
	go func() {
		err := p.pubacks(bufio.NewReader(conn))
		p.mu.Lock()
		failed = err
		p.room.Broadcast()
		p.mu.Unlock()
		close(done)
	}()
	out := bufio.NewWriterSize(conn, 64<<10)
	p.mu.Lock()
	for _, n := range p.unacked {
		out.Write(p.packet(n, true))
	}
	for failed == nil && (next < messages || len(p.unacked) > 0) {
		if next == messages || len(p.unacked) >= inFlight {
			p.mu.Unlock()
			out.Flush()
			p.mu.Lock()
			if failed == nil && (len(p.unacked) >= inFlight || next == messages && len(p.unacked) > 0) {
				p.room.Wait()
			}
			continue
		}
		p.unacked = append(p.unacked, next)
		p.mu.Unlock()
		out.Write(p.packet(next, false))
		next++
		p.mu.Lock()
	}
	err := failed
	p.mu.Unlock()
	conn.Close()
	<-done
	return next, err
}

func (p *publisher) pubacks(in *bufio.Reader) error {
	for {
		id, err := wire.ReadPuback(in)
		if err != nil {
			return err
		}
		p.mu.Lock()
		if i := slices.IndexFunc(p.unacked, func(n int) bool { return packetID(n) == id }); i >= 0 {
			p.unacked = slices.Delete(p.unacked, i, i+1)
		}
		p.room.Broadcast()
		p.mu.Unlock()
	}
}

func packetID(n int) uint16 { return uint16(n%65535 + 1) }

func (p *publisher) packet(n int, dup bool) []byte {
	topic := fmt.Sprintf(p.topic, n%p.devices)
	flags := byte(wire.QoS1)
	if dup {
		flags |= wire.Dup
	}
	return wire.AppendPublish(nil, flags, topic, packetID(n), fmt.Appendf(nil, "%-*d", p.size, n))
}
