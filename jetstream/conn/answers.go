package conn

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"
)

// ackInterceptor is the socket of a connection to NATS, as nats.go sees it. On a publisher's
// connection it takes PubAcks off the stream before nats.go's parser, which would copy each one
// three times and pass it to another goroutine. It is the counterpart of the tap on the MQTT side,
// and saves a quarter of the bridge's CPU time and three allocations per message (measured).
//
// It also protects nats.go v1.55 on every connection. nats.go trusts the sizes that a server states
// and panics on one that does not fit into memory. It buffers an endless line until memory is
// exhausted, and closes the connection permanently on an unknown error. With the interceptor each
// of these is a failed read, after which nats.go reconnects.
//
// Under TLS and WebSocket the bytes are not the NATS protocol. They all pass unchanged, and answers
// arrive through nats.go's subscription.
type ackInterceptor struct {
	net.Conn
	sink func() *AckSink
	// report is called with the reason why the connection must end; nil: not called. nats.go does
	// not expose the error of a failed read.
	report func(error)
	// closed is called when nats.go has closed the connection; nil: not called.
	closed func()

	// seen is what the server has sent; nil before its first byte. greeted is set at the first read
	// after the server's greeting.
	seen    atomic.Pointer[serverOutput]
	greeted atomic.Bool
	reads   int

	buf        []byte
	r, w       int  // buf[r:w] is read but not yet consumed
	passBytes  int  // bytes from r on that are for nats.go
	bodyBytes  int  // remaining bytes of a message's payload, which are for nats.go too
	expectCRLF bool // CR LF of a message follows
	lineBytes  int  // bytes passed of a line that has not ended; 0: none
	raw        bool // not the NATS protocol: everything is for nats.go
	err        error
	msg        nats.Msg
}

// Intercept wraps a socket to NATS for nats.go. Answers go to the sink while one is set. report is
// called with the reason why the connection must end. closed is called when nats.go has closed the
// connection. Both may be nil.
func Intercept(socket net.Conn, sink func() *AckSink, report func(error), closed func()) net.Conn {
	return &ackInterceptor{Conn: socket, sink: sink, report: report, closed: closed}
}

// ServerError means that the connection had to end because the server violated the protocol or
// reported an error.
type ServerError string

// Error implements error.
func (f ServerError) Error() string { return string(f) }

// AckSink receives the answers under the reply inbox.
type AckSink struct {
	prefix []byte // MSG and the inbox
	answer func(m *nats.Msg, more bool)
}

// NewAckSink returns a sink that passes the messages for the reply inbox to answer. more reports
// whether another answer is already available. answer must not retain the message.
func NewAckSink(inbox string, answer func(*nats.Msg, bool)) *AckSink {
	return &AckSink{prefix: []byte("MSG " + inbox), answer: answer}
}

const (
	// maxAnswer is the maximum size of a PubAck that is intercepted, maxLine that of a message's
	// protocol line, both in bytes.
	maxAnswer = 4 << 10
	maxLine   = 8 << 10
	// maxOther is the maximum size of other lines. INFO may list many servers.
	maxOther = 1 << 20
	// maxMessage is the maximum size of a message, headers included: nats-server accepts no
	// max_payload above 64 MB (MAX_PAYLOAD_MAX_SIZE).
	maxMessage = 64 << 20
)

// Close implements net.Conn.
func (c *ackInterceptor) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.Conn.Close()
}

// Read is called by nats.go. It returns only with bytes for nats.go, or with an error.
func (c *ackInterceptor) Read(p []byte) (int, error) {
	for {
		if c.passBytes > 0 {
			n := copy(p, c.buf[c.r:c.r+c.passBytes])
			c.r += n
			c.passBytes -= n
			return n, nil
		}
		if c.err != nil {
			return 0, c.err
		}
		if c.r < c.w && c.scan() {
			continue
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

func (c *ackInterceptor) fill() error {
	if c.buf == nil {
		c.buf = make([]byte, 32<<10)
	}
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.reads < 2 {
		c.reads++
		c.greeted.Store(c.reads == 2)
	}
	n, err := c.Conn.Read(c.buf[c.w:])
	if n > 0 && c.seen.Load() == nil {
		c.seen.Store(&serverOutput{first: string(c.buf[c.w : c.w+min(n, maxFirst)])})
	}
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// Write implements net.Conn. A failed write closes the connection. When a flush fails, nats.go
// discards its buffer and, if no byte was sent, keeps the connection (v1.55, natsWriter.flush).
// Messages sent later would then overtake the lost ones.
//
// A server that refuses a connection sends the reason and closes it. If the answer to its greeting
// cannot be written, the reason can still be read.
func (c *ackInterceptor) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		if !c.greeted.Load() {
			c.readRefusal()
		}
		c.Conn.Close()
	}
	return n, err
}

// readRefusal looks for -ERR in the unread bytes after the greeting. Used only by the goroutine
// that connects.
func (c *ackInterceptor) readRefusal() {
	rest := slices.Clone(c.buf[c.r:c.w])
	buf := make([]byte, maxLine)
	_ = c.Conn.SetReadDeadline(time.Now().Add(refusalTimeout))
	for len(rest) < 2*maxLine {
		n, err := c.Conn.Read(buf)
		rest = append(rest, buf[:n]...)
		if err != nil {
			break
		}
	}
	for line := range bytes.Lines(rest) {
		if bytes.HasPrefix(line, []byte("-ERR")) {
			c.recordRefusal(refusalText(line))
		}
	}
}

func (c *ackInterceptor) recordRefusal(text string) {
	e := serverOutput{refusal: text}
	if seen := c.seen.Load(); seen != nil {
		e.first = seen.first
	}
	c.seen.Store(&e)
}

func refusalText(line []byte) string {
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(string(line)), "-ERR"), " '")
}

const (
	// maxFirst bounds the number of first bytes that are kept.
	maxFirst = 4 << 10
	// refusalTimeout bounds reading data that has already arrived.
	refusalTimeout = 20 * time.Millisecond
)

// scan processes the buffer: it takes answers and sets passBytes or err. It returns false if it
// needs more bytes to decide.
func (c *ackInterceptor) scan() bool {
	for c.r < c.w {
		b := c.buf[c.r:c.w]
		switch {
		case c.raw:
			c.passBytes = len(b)
			return true
		case c.bodyBytes > 0:
			c.passBytes = min(c.bodyBytes, len(b))
			c.bodyBytes -= c.passBytes
			return true
		case c.expectCRLF:
			if len(b) < len("\r\n") {
				return false
			}
			c.expectCRLF, c.passBytes = false, len("\r\n")
			if string(b[:len("\r\n")]) != "\r\n" {
				// nats.go would expect the next line at another position.
				return c.violation("a message does not have the length that it states")
			}
			return true
		case c.lineBytes > 0:
			return c.passLine(b)
		}
		n, more := c.takeAck(b)
		if more {
			return false
		}
		if c.err != nil {
			return true
		}
		if n > 0 {
			c.r += n
			continue
		}
		return c.passOther(b)
	}
	return false
}

// violation ends the connection because of bytes that are not the NATS protocol.
func (c *ackInterceptor) violation(what string) bool {
	return c.terminate(ServerError("the NATS server violates the protocol: " + what))
}

func (c *ackInterceptor) terminate(reason ServerError) bool {
	c.passBytes, c.err = 0, reason
	if c.report != nil {
		c.report(c.err)
	}
	return true
}

// passLine passes b up to the end of the line.
func (c *ackInterceptor) passLine(b []byte) bool {
	n := bytes.IndexByte(b, '\n') + 1
	if n > 0 {
		c.lineBytes, c.passBytes = 0, n
		return true
	}
	c.lineBytes += len(b)
	c.passBytes = len(b)
	if c.lineBytes > maxOther {
		return c.violation("a line does not end")
	}
	return true
}

// takeAck takes the answer at the beginning of b and returns its length. It returns 0 if b does not
// begin with an answer, and more if that cannot be decided yet.
func (c *ackInterceptor) takeAck(b []byte) (n int, more bool) {
	sink := c.sink()
	if sink == nil {
		return 0, false
	}
	if !bytes.HasPrefix(b, sink.prefix) {
		return 0, bytes.HasPrefix(sink.prefix, b)
	}
	// MSG <subject> <sid> <size>\r\n<payload>\r\n
	line, more := wholeLine(b)
	if line == 0 {
		return 0, more
	}
	size, ok := lastField(b[:line])
	subject, _, two := bytes.Cut(b[len("MSG "):line], []byte{' '})
	if !ok || !two || size > maxAnswer {
		return 0, false
	}
	n = line + size + len("\r\n")
	if len(b) < n {
		return 0, true
	}
	if !bytes.HasSuffix(b[:n], []byte("\r\n")) {
		c.violation("an answer does not have the length that it states")
		return 0, false
	}
	// No copy is made: the sink does not retain it.
	c.msg.Subject, c.msg.Data = unsafe.String(unsafe.SliceData(subject), len(subject)), b[line:line+size]
	sink.answer(&c.msg, bytes.HasPrefix(b[n:], sink.prefix))
	return n, false
}

// passOther passes anything that is not an answer: a message with its payload, or a line.
func (c *ackInterceptor) passOther(b []byte) bool {
	if b[0] < ' ' || b[0] > '~' {
		c.raw = true // TLS and WebSocket records begin like this, a line never does
		return true
	}
	switch b[0] {
	case 'M', 'm', 'H', 'h': // nats.go accepts either case
	case '-':
		return c.checkErrLine(b)
	default:
		return c.passLine(b)
	}
	// MSG or HMSG: the line contains the number of bytes that follow it.
	line, more := wholeLine(b)
	if more {
		return false
	}
	if bytes.HasPrefix(b, []byte("HTTP/")) {
		c.raw = true // the beginning of a WebSocket
		return true
	}
	if !bytes.HasPrefix(b, []byte("MSG ")) && !bytes.HasPrefix(b, []byte("HMSG ")) {
		return c.violation("an unknown line")
	}
	size, ok := lastField(b[:line])
	if !ok || size > maxMessage {
		return c.violation("a message with an impossible size")
	}
	c.passBytes, c.bodyBytes, c.expectCRLF = line, size, true
	return true
}

// checkErrLine passes an -ERR that nats.go handles. On an unknown error nats.go would close the
// connection permanently (v1.55, processErr).
func (c *ackInterceptor) checkErrLine(b []byte) bool {
	line, more := wholeLine(b)
	if more {
		return false
	}
	text := refusalText(b[:line])
	c.recordRefusal(text)
	for _, known := range []string{
		"stale connection", "maximum connections exceeded", "maximum account active connections exceeded",
		"unknown protocol operation", "permissions violation", "maximum subscriptions exceeded", "authorization violation",
		"user authentication expired", "user authentication revoked", "account authentication expired",
	} {
		if strings.HasPrefix(strings.ToLower(text), known) {
			c.passBytes = line
			return true
		}
	}
	return c.terminate(ServerError(fmt.Sprintf("the NATS server reports the error %.200q", text)))
}

// wholeLine returns the length of the line at the beginning of b, including its end. It returns 0
// if the line does not end within maxLine, and more if that cannot be decided yet. Without the
// bound, a line and its answer could exceed the buffer, and the reader would loop forever on a full
// one.
func wholeLine(b []byte) (n int, more bool) {
	n = bytes.IndexByte(b[:min(len(b), maxLine)], '\n') + 1
	return n, n == 0 && len(b) < maxLine
}

// lastField parses the number at the end of a protocol line.
func lastField(line []byte) (int, bool) {
	line = bytes.TrimRight(line, "\r\n")
	n, err := strconv.ParseUint(string(line[bytes.LastIndexByte(line, ' ')+1:]), 10, 31)
	return int(n), err == nil
}
