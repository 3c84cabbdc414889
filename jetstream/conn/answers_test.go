package conn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// chunksConn returns its bytes in chunks of the given sizes, in rotation.
type chunksConn struct {
	net.Conn
	rest  []byte
	sizes []byte
	turn  int
}

func (c *chunksConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := len(c.rest)
	if len(c.sizes) > 0 {
		n = int(c.sizes[c.turn%len(c.sizes)])%64 + 1
		c.turn++
	}
	n = copy(p, c.rest[:min(n, len(c.rest))])
	c.rest = c.rest[n:]
	return n, nil
}

const testInbox = "_INBOX.abc."

// through reads a stream through an ackInterceptor. It returns the passed data, the answers, and
// whether the connection was ended.
func through(t testing.TB, stream, sizes []byte) (passed []byte, answers []string, bad bool) {
	t.Helper()
	sink := NewAckSink(testInbox, func(m *nats.Msg, _ bool) {
		answers = append(answers, m.Subject+" "+string(m.Data))
	})
	c := &ackInterceptor{
		Conn: &chunksConn{rest: bytes.Clone(stream), sizes: sizes},
		sink: func() *AckSink { return sink },
	}
	var err error
	buf := make([]byte, 100)
	for err == nil {
		var n int
		n, err = c.Read(buf)
		passed = append(passed, buf[:n]...)
	}
	if why := ServerError(""); errors.As(err, &why) {
		_, again := c.Read(buf)
		require.Equal(t, err, again)
		return passed, answers, true
	}
	require.ErrorIs(t, err, io.EOF)
	return append(passed, c.buf[c.r:c.w]...), answers, false
}

func ack(seq int) string {
	const data = `{"stream":"T","seq":1}`
	return fmt.Sprintf("MSG %s%d.1 1 %d\r\n%s\r\n", testInbox, seq, len(data), data)
}

func TestAckInterceptor(t *testing.T) {
	t.Parallel()
	t.Run("acks are intercepted and the rest passes", testAcksAreInterceptedAndTheRestPasses)
	t.Run("overlong line ends connection", testOverlongLineEndsConnection)
}

func testAcksAreInterceptedAndTheRestPasses(t *testing.T) {
	t.Parallel()
	others := []string{
		"INFO {\"server_id\":\"x\"}\r\n", "PONG\r\n", "-ERR 'Permissions Violation'\r\n", "+OK\r\n",
		"MSG other.subject 2 5\r\nMSG _\r\n",
		"MSG other.subject 2 reply 5\r\nhello\r\n",
		"MSG " + testInbox + "9.9 1 5000\r\n" + strings.Repeat("x", 5000) + "\r\n",
		"HMSG " + testInbox + "1.1 1 30 30\r\nNATS/1.0 503\r\n\r\n" + strings.Repeat("y", 14) + "\r\n",
		"PING\r\n",
	}
	var stream, want strings.Builder
	n := 0
	for _, o := range others {
		for range 3 {
			n++
			stream.WriteString(ack(n))
		}
		stream.WriteString(o)
		want.WriteString(o)
	}
	for size := range 64 {
		passed, answers, bad := through(t, []byte(stream.String()), []byte{byte(size), byte(3 * size)})
		require.False(t, bad)
		require.Equal(t, want.String(), string(passed))
		require.Len(t, answers, n)
		require.Equal(t, testInbox+`1.1 {"stream":"T","seq":1}`, answers[0])
	}
}

func TestAckInterceptorOtherProtocols(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]string{
		"TLS":       "\x16\x03\x03\x00\x7a\x02\r\nM" + ack(1),
		"WebSocket": "HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x10" + ack(1),
		"binary":    "\xff\xfe" + ack(1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream := "INFO {}\r\n" + after
			passed, answers, bad := through(t, []byte(stream), []byte{7})
			require.False(t, bad)
			require.Equal(t, stream, string(passed))
			require.Empty(t, answers)
		})
	}
}

// A line and an answer together exceed the buffer: the reader must not wait for their end with a
// full buffer.
func testOverlongLineEndsConnection(t *testing.T) {
	t.Parallel()
	for _, length := range []int{maxLine - 40, maxLine, 30_000, 40_000} {
		answer := "MSG " + testInbox + strings.Repeat("1", length) + " 1 4000\r\n" + strings.Repeat("x", 4000) + "\r\n"
		for _, sizes := range [][]byte{nil, {63}, {1, 7}} {
			passed, answers, bad := through(t, []byte(answer+"PING\r\n"), sizes)
			if length < maxLine {
				require.Equal(t, "PING\r\n", string(passed))
				require.Len(t, answers, 1)
				continue
			}
			require.True(t, bad)
			require.Empty(t, passed)
			require.Empty(t, answers)
		}
	}
}

// nats.go v1.55 panics on the first three, buffers the fourth until memory runs out, and closes the
// connection permanently on the last.
func TestAckInterceptorMalformedInput(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{
		"a size beyond 64 bits":     "MSG x 1 99999999999999999999\r\n",
		"a size that no memory has": "HMSG x 1 12 9000000000000000000\r\n",
		"in lower case":             "msg x 1 99999999999999999999\r\n",
		"a line without end":        "INFO " + strings.Repeat("x", 2*maxOther),
		"an unknown error":          "-ERR 'Maximum Control Line Exceeded'\r\n",
		"a size that is negative":   "MSG x 1 -1\r\n",
		"a size and more":           "MSG x 1 2\r\nabMSG x 1 99999999999999999999\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, answers, bad := through(t, []byte("PONG\r\n"+stream+ack(1)), []byte{63})
			require.True(t, bad)
			require.Empty(t, answers)
		})
	}
}

// Not parallel: other tests' allocations would count.
func TestAckInterceptorAllocations(t *testing.T) {
	stream := []byte(strings.Repeat(ack(1), 1000) + "PING\r\n")
	n := 0
	sink := NewAckSink(testInbox, func(*nats.Msg, bool) { n++ })
	source := &chunksConn{}
	c := &ackInterceptor{Conn: source, sink: func() *AckSink { return sink }}
	buf := make([]byte, 100)
	allocs := testing.AllocsPerRun(10, func() {
		source.rest = stream
		if got, err := c.Read(buf); err != nil || got != len("PING\r\n") {
			panic(fmt.Sprint(got, err))
		}
	})
	require.Equal(t, 11_000, n)
	require.Less(t, allocs, 3.0)
}
