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

// ackInterceptor is the socket of a connection to NATS, as nats.go sees it. On a
// publisher's connection PubAcks are taken off the stream here, before nats.go's
// parser, which would copy each one three times and hand it to another goroutine.
// It is the counterpart of the tap on the MQTT side, and saves a quarter of the
// bridge's CPU time and three allocations per message (measured).
//
// On every connection it protects nats.go v1.55, which trusts the sizes that a server
// states and panics on one that does not fit into memory, buffers an endless line until
// memory is exhausted, and closes a connection permanently on an error that it does not know.
// Here each of these is a failed read, after which nats.go reconnects.
//
// Under TLS and WebSocket the bytes are not the NATS protocol. All of them pass, and the answers
// arrive through nats.go's subscription.
type ackInterceptor struct {
	failFastConn
	sink func() *AckSink
	// report, if any, is called with the reason why the connection must end: nats.go does not
	// expose the error of a failed read.
	report func(error)
	// closed, if any, is called when nats.go has closed the connection.
	closed func()

	// seen records what the server has sent; nil before its first byte. greeted is set at the first
	// read after the server's greeting.
	seen    atomic.Pointer[evidence]
	greeted atomic.Bool
	reads   int

	buf    []byte
	r, w   int  // buf[r:w] is read and not yet consumed
	pass   int  // bytes from r on that are for nats.go
	body   int  // bytes of a message's payload that are for nats.go too
	ending bool // then its CR LF
	inLine int  // bytes of a line that passed, its end has not come; 0: none
	raw    bool // not the NATS protocol: everything is for nats.go
	bad    error
	msg    nats.Msg
}

// Intercept wraps a socket to NATS for nats.go. Answers go to the sink while one is set. report is
// called with the reason why the connection must end, closed when nats.go has closed it. Both may
// be nil.
func Intercept(socket net.Conn, sink func() *AckSink, report func(error), closed func()) net.Conn {
	return &ackInterceptor{failFastConn: failFastConn{socket}, sink: sink, report: report, closed: closed}
}

// ServerError means that the connection had to end: the server violated the protocol or reported an
// error.
type ServerError string

// Error implements error.
func (f ServerError) Error() string { return string(f) }

// AckSink receives the answers under the reply inbox.
type AckSink struct {
	prefix []byte // MSG and the inbox
	answer func(m *nats.Msg, more bool)
}

// NewAckSink returns a sink that passes what arrives at the reply inbox to answer. more reports
// whether another answer is already available. answer must not keep the message.
func NewAckSink(inbox string, answer func(*nats.Msg, bool)) *AckSink {
	return &AckSink{prefix: []byte("MSG " + inbox), answer: answer}
}

const (
	// maxAnswer is the longest PubAck that is intercepted, maxLine the longest protocol line of a
	// message, both in bytes.
	maxAnswer = 4 << 10
	maxLine   = 8 << 10
	// maxOther is the longest of the other lines. INFO may name many servers.
	maxOther = 1 << 20
	// maxMessage is the largest message: nats-server accepts no max_payload above 64 MB
	// (MAX_PAYLOAD_MAX_SIZE), headers included.
	maxMessage = 64 << 20
)

// Close implements net.Conn.
func (c *ackInterceptor) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.failFastConn.Close()
}

// Read is called by nats.go. It returns only with bytes for nats.go, or with an error.
func (c *ackInterceptor) Read(p []byte) (int, error) {
	for {
		if c.pass > 0 {
			n := copy(p, c.buf[c.r:c.r+c.pass])
			c.r += n
			c.pass -= n
			return n, nil
		}
		if c.bad != nil {
			return 0, c.bad
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
		c.seen.Store(&evidence{first: string(c.buf[c.w : c.w+min(n, maxFirst)])})
	}
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// Write implements net.Conn. A server that refuses a connection sends the reason and closes it. If
// the answer to its greeting cannot be written, the reason can still be read.
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

// readRefusal looks for -ERR in what the greeting left unread. Used only by the goroutine
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
			c.refusedWith(refusalText(line))
		}
	}
}

func (c *ackInterceptor) refusedWith(text string) {
	e := evidence{refusal: text}
	if seen := c.seen.Load(); seen != nil {
		e.first = seen.first
	}
	c.seen.Store(&e)
}

func refusalText(line []byte) string {
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(string(line)), "-ERR"), " '")
}

const (
	// maxFirst bounds how many of the first bytes are kept.
	maxFirst = 4 << 10
	// refusalTimeout bounds reading data that has already arrived.
	refusalTimeout = 20 * time.Millisecond
)

// scan reads what is in the buffer: it takes answers and sets pass, or bad. It reports false if it
// needs more bytes to decide.
func (c *ackInterceptor) scan() bool {
	for c.r < c.w {
		b := c.buf[c.r:c.w]
		switch {
		case c.raw:
			c.pass = len(b)
			return true
		case c.body > 0:
			c.pass = min(c.body, len(b))
			c.body -= c.pass
			return true
		case c.ending:
			if len(b) < len("\r\n") {
				return false
			}
			c.ending, c.pass = false, len("\r\n")
			return c.checkEnd(b)
		case c.inLine > 0:
			return c.passLine(b)
		}
		took, more := c.take(b)
		if more {
			return false
		}
		if c.bad != nil {
			return true
		}
		if took > 0 {
			c.r += took
			continue
		}
		return c.other(b)
	}
	return false
}

// fail ends the connection because of bytes that are not the NATS protocol.
func (c *ackInterceptor) fail(what string) bool {
	return c.end(ServerError("the NATS server violates the protocol: " + what))
}

func (c *ackInterceptor) end(why ServerError) bool {
	c.pass, c.bad = 0, why
	if c.report != nil {
		c.report(c.bad)
	}
	return true
}

// checkEnd checks that a message has the size that it states. Otherwise nats.go would look for the
// next line at another position than this does.
func (c *ackInterceptor) checkEnd(b []byte) bool {
	if string(b[:len("\r\n")]) != "\r\n" {
		return c.fail("a message does not have the length that it states")
	}
	return true
}

// passLine passes b to the end of the line.
func (c *ackInterceptor) passLine(b []byte) bool {
	n := bytes.IndexByte(b, '\n') + 1
	if n > 0 {
		c.inLine, c.pass = 0, n
		return true
	}
	c.inLine += len(b)
	c.pass = len(b)
	if c.inLine > maxOther {
		return c.fail("a line does not end")
	}
	return true
}

// take takes the answer that b begins with. It returns its length, 0 if b does not begin with an
// answer, or more if that cannot be decided yet.
func (c *ackInterceptor) take(b []byte) (n int, more bool) {
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
		c.fail("an answer does not have the length that it states")
		return 0, false
	}
	// No copy: the sink does not keep it.
	c.msg.Subject, c.msg.Data = unsafe.String(unsafe.SliceData(subject), len(subject)), b[line:line+size]
	sink.answer(&c.msg, bytes.HasPrefix(b[n:], sink.prefix))
	return n, false
}

// other passes anything that is not an answer: a message with its payload, or a line.
func (c *ackInterceptor) other(b []byte) bool {
	if b[0] < ' ' || b[0] > '~' {
		c.raw = true // TLS and WebSocket records begin like this, no line does
		return true
	}
	switch b[0] {
	case 'M', 'm', 'H', 'h': // nats.go reads either case
	case '-':
		return c.refusal(b)
	default:
		return c.passLine(b)
	}
	// MSG or HMSG: the line says how much follows it.
	line, more := wholeLine(b)
	if more {
		return false
	}
	if bytes.HasPrefix(b, []byte("HTTP/")) {
		c.raw = true // the beginning of WebSocket
		return true
	}
	if !bytes.HasPrefix(b, []byte("MSG ")) && !bytes.HasPrefix(b, []byte("HMSG ")) {
		return c.fail("an unknown line")
	}
	size, ok := lastField(b[:line])
	if !ok || size > maxMessage {
		return c.fail("a message with an impossible size")
	}
	c.pass, c.body, c.ending = line, size, true
	return true
}

// refusal passes an -ERR that nats.go handles. On an error that it does not know, nats.go would
// close the connection permanently (v1.55, processErr).
func (c *ackInterceptor) refusal(b []byte) bool {
	line, more := wholeLine(b)
	if more {
		return false
	}
	text := refusalText(b[:line])
	c.refusedWith(text)
	for _, known := range []string{
		"stale connection", "maximum connections exceeded", "maximum account active connections exceeded",
		"unknown protocol operation", "permissions violation", "maximum subscriptions exceeded", "authorization violation",
		"user authentication expired", "user authentication revoked", "account authentication expired",
	} {
		if strings.HasPrefix(strings.ToLower(text), known) {
			c.pass = line
			return true
		}
	}
	return c.end(ServerError(fmt.Sprintf("the NATS server reports the error %.200q", text)))
}

// wholeLine returns the length of the line that b begins with, including its end: 0 if it does not
// end within maxLine, or more if that cannot be decided yet. Without the bound, a line and its
// answer could exceed the buffer, and the reader would loop forever on a full one.
func wholeLine(b []byte) (n int, more bool) {
	n = bytes.IndexByte(b[:min(len(b), maxLine)], '\n') + 1
	return n, n == 0 && len(b) < maxLine
}

// lastField reads the number at the end of a protocol line.
func lastField(line []byte) (int, bool) {
	line = bytes.TrimRight(line, "\r\n")
	n, err := strconv.ParseUint(string(line[bytes.LastIndexByte(line, ' ')+1:]), 10, 31)
	return int(n), err == nil
}
