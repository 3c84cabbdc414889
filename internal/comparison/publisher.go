package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// inFlight is how many PUBLISH packets the publisher has without a PUBACK, at most.
const inFlight = 500

// publisher is a device gateway: one MQTT client that publishes numbered messages for
// many devices at QoS 1, and sends again, in order and with DUP, what had no PUBACK when
// a connection ended.
type publisher struct {
	address string
	client  string
	topic   string // with a %d for the device
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
	// Protocol level 4, clean session off, keep-alive off.
	_, err = fmt.Fprintf(conn, "\x10%c\x00\x04MQTT\x04\x00\x00\x00\x00%c%s", 12+len(p.client), len(p.client), p.client)
	var connack [4]byte
	if err == nil {
		_, err = io.ReadFull(conn, connack[:])
	}
	if err == nil && connack[3] != 0 {
		err = fmt.Errorf("CONNACK code %d", connack[3])
	}
	if err != nil {
		conn.Close()
	}
	return conn, err
}

// publish returns nil when every message has its PUBACK, else where to go on.
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
		var packet [4]byte
		if _, err := io.ReadFull(in, packet[:]); err != nil {
			return err
		}
		id := binary.BigEndian.Uint16(packet[2:])
		p.mu.Lock()
		for i, n := range p.unacked {
			if packetID(n) == id {
				p.unacked = append(p.unacked[:i], p.unacked[i+1:]...)
				break
			}
		}
		p.room.Broadcast()
		p.mu.Unlock()
	}
}

func packetID(n int) uint16 { return uint16(n%65535 + 1) }

func (p *publisher) packet(n int, dup bool) []byte {
	topic := fmt.Sprintf(p.topic, n%p.devices)
	head := byte(0x32)
	if dup {
		head |= 8
	}
	b := binary.AppendUvarint([]byte{head}, uint64(2+len(topic)+2+p.size))
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	b = binary.BigEndian.AppendUint16(b, packetID(n))
	return fmt.Appendf(b, "%-*d", p.size, n)
}
