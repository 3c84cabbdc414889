package hostile

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
	"mqtt-nats-bridge/jetstream/embedded"
)

// hostileNATS is a proxy between a bridge and a real nats-server. It attacks either every
// connection, by replacing INFO, or one of the bridge's connections, by replacing JetStream's
// answers. After its release it forwards everything.
type hostileNATS struct {
	addr     string
	released chan struct{}
}

// natsMessage is a lane's publish as the hostile server reads it.
type natsMessage struct {
	reply   string
	payload string
}

// natsAttack describes one attack.
type natsAttack struct {
	name string
	// greet is sent instead of INFO, on every connection.
	greet string
	// answer replies to one message of the lane, with any bytes.
	answer func(c io.Writer, m natsMessage)
	// ends closes the connection after the attack.
	ends bool
	// says are words of a problem that the bridge then reports.
	says []string
	// believed is set if the answer is a forged PubAck for the first message. The bridge has to
	// trust it and acknowledges that message.
	believed bool
	// refused is set if the answer is a final refusal, also of quarantine copies. Refused
	// messages end up in quarantine without their payload.
	refused bool
	// control attacks the bridge's connection that manages the streams.
	control bool
	slow    bool
}

func startHostileNATS(t testing.TB, upstream string, a natsAttack) *hostileNATS {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &hostileNATS{addr: l.Addr().String(), released: make(chan struct{})}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	closeWith := func(c net.Conn, signals ...<-chan struct{}) (over chan struct{}) {
		over = make(chan struct{})
		for _, signal := range signals {
			wait.Go(func() {
				select {
				case <-signal:
					c.Close()
				case <-over:
				}
			})
		}
		return over
	}
	wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer conn.Close()
				defer close(closeWith(conn, stop))
				s.serve(conn, upstream, a, func(c net.Conn) chan struct{} { return closeWith(c, stop, s.released) })
			})
		}
	})
	t.Cleanup(func() {
		close(stop)
		l.Close()
		wait.Wait()
	})
	return s
}

func (s *hostileNATS) attacking() bool {
	select {
	case <-s.released:
		return false
	default:
		return true
	}
}

// serve handles one connection.
func (s *hostileNATS) serve(conn net.Conn, upstream string, a natsAttack, attack func(net.Conn) chan struct{}) {
	if a.greet != "" && s.attacking() {
		defer close(attack(conn))
		io.WriteString(conn, a.greet)
		io.Copy(io.Discard, conn)
		return
	}
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		return
	}
	defer server.Close()
	fromServer, fromClient := bufio.NewReader(server), bufio.NewReader(conn)
	info, err := fromServer.ReadString('\n')
	if err != nil {
		return
	}
	io.WriteString(conn, info)
	connect, err := fromClient.ReadString('\n')
	if err != nil {
		return
	}
	var options struct{ Name string }
	json.Unmarshal([]byte(strings.TrimPrefix(connect, "CONNECT ")), &options)
	if a.answer != nil && strings.HasSuffix(options.Name, "-control") == a.control && s.attacking() {
		defer close(attack(conn))
		play(conn, fromClient, a)
		return
	}
	io.WriteString(server, connect)
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(conn, fromServer)
		conn.Close()
	})
	io.Copy(server, fromClient)
	server.Close()
	back.Wait()
}

// play acts as the NATS server that a publisher needs, with hostile answers.
func play(conn net.Conn, in *bufio.Reader, a natsAttack) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "PING":
			io.WriteString(conn, "PONG\r\n")
		case fields[0] == "PUB" || fields[0] == "HPUB":
			size, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return
			}
			body := make([]byte, size+2)
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			payload := string(body[:size])
			if _, text, ok := strings.Cut(payload, "\r\n\r\n"); ok && fields[0] == "HPUB" {
				payload = text
			}
			a.answer(conn, natsMessage{reply: fields[2], payload: payload})
			if a.ends {
				return
			}
		}
	}
}

// msg returns a correct MSG line with its payload.
func msg(subject, data string) string {
	return fmt.Sprintf("MSG %s 1 %d\r\n%s\r\n", subject, len(data), data)
}

// otherToken returns a reply subject with another number and attempt.
func otherToken(reply string, number, attempt string) string {
	tokens := strings.Split(reply, ".")
	tokens[len(tokens)-2], tokens[len(tokens)-1] = number, attempt
	return strings.Join(tokens, ".")
}

func natsAttacks() []natsAttack {
	always := func(text string) func(io.Writer, natsMessage) {
		return func(c io.Writer, _ natsMessage) { io.WriteString(c, text) }
	}
	reply := func(data string) func(io.Writer, natsMessage) {
		return func(c io.Writer, m natsMessage) { io.WriteString(c, msg(m.reply, data)) }
	}
	format := func(pattern string) func(io.Writer, natsMessage) {
		return func(c io.Writer, m natsMessage) { io.WriteString(c, strings.ReplaceAll(pattern, "REPLY", m.reply)) }
	}
	to := func(number, attempt string) func(io.Writer, natsMessage) {
		return func(c io.Writer, m natsMessage) {
			io.WriteString(c, msg(otherToken(m.reply, number, attempt), `{"stream":"TELEMETRY","seq":1}`))
		}
	}
	const unreadable, silence = "unreadable answer from JetStream", "no acknowledgement from JetStream in time"
	attacks := []natsAttack{
		// In place of INFO.
		{name: "INFO that is no JSON", greet: "INFO {bad\r\n"},
		{name: "INFO of nothing", greet: "INFO \r\n"},
		{name: "INFO without end", greet: "INFO " + strings.Repeat("x", 1<<20)},
		{name: "another protocol", greet: "HTTP/1.1 400 Bad Request\r\n\r\n"},
		{name: "garbage", greet: "\x16\x03\x01\x00\xff\x00\x00\n"},
		{name: "an error instead of INFO", greet: "-ERR 'maximum connections exceeded'\r\n"},
		{name: "INFO that wants TLS", greet: "INFO {\"server_id\":\"x\",\"tls_required\":true,\"max_payload\":1048576}\r\n"},
		{name: "INFO and no answer to PING", greet: "INFO {\"server_id\":\"x\",\"headers\":true,\"max_payload\":1048576}\r\n", slow: true},
		{name: "INFO with an impossible payload", greet: "INFO {\"server_id\":\"x\",\"headers\":true,\"max_payload\":-1}\r\nPONG\r\n", refused: true},
		{name: "INFO without headers", greet: "INFO {\"server_id\":\"x\",\"max_payload\":1048576}\r\nPONG\r\n"},

		// In place of a PubAck.
		{name: "silence", answer: always(""), says: []string{silence}},
		{name: "closing", answer: always(""), ends: true},
		{name: "floods of PING", answer: always(strings.Repeat("PING\r\n", 20_000)), says: []string{silence}},
		{name: "floods of PONG", answer: always(strings.Repeat("PONG\r\n", 20_000)), says: []string{silence}},
		{name: "a line without end", answer: always("+OK" + strings.Repeat("x", 2<<20))},
		{name: "a MSG line without end", answer: format("MSG REPLY" + strings.Repeat("x", 1<<20))},
		{name: "bytes that are no line", answer: always("\x00\xff\x16\x03\r\n")},
		{name: "INFO that is no JSON, later", answer: always("INFO {bad\r\n")},
		{name: "INFO that names servers elsewhere", answer: always("INFO {\"connect_urls\":[\"127.0.0.1:1\",\"[::1]:1\",\"x:y\"],\"max_payload\":1048576,\"headers\":true}\r\n"), says: []string{silence}},
		{name: "INFO that shrinks the payload", answer: always("INFO {\"max_payload\":1,\"headers\":true}\r\n"), refused: true},

		// MSG and HMSG with inconsistent sizes.
		{name: "a negative size", answer: format("MSG REPLY 1 -5\r\n{\"stream\":\"T\",\"seq\":1}\r\n"), says: []string{"violates the protocol", "impossible size"}},
		{name: "a size beyond everything", answer: format("MSG REPLY 1 99999999999999999999\r\n{}\r\n"), says: []string{"violates the protocol", "impossible size"}},
		{name: "a size of 2 GB", answer: format("MSG REPLY 1 2147483647\r\n{\"stream\":\"T\",\"seq\":1}\r\n")},
		{name: "a size that is too small", answer: format("MSG REPLY 1 5\r\n{\"stream\":\"T\",\"seq\":1}\r\n")},
		{name: "a size that is too large", answer: format("MSG REPLY 1 23\r\n{\"stream\":\"T\",\"seq\":1}\r\n")},
		{name: "no size", answer: format("MSG REPLY 1\r\n{\"stream\":\"T\",\"seq\":1}\r\n")},
		{name: "answer to an unknown subscription", answer: format("MSG other.REPLY 99 22\r\n{\"stream\":\"T\",\"seq\":1}\r\n"), says: []string{silence}},
		{name: "an answer under another's subject", answer: func(c io.Writer, m natsMessage) {
			// Like a push consumer that delivers to the inbox, with its own tokens last.
			io.WriteString(c, msg("tenant.acme.device.1.1", `{"stream":"TELEMETRY","seq":1}`))
		}, says: []string{silence}},
		{name: "a header longer than its message", answer: format("HMSG REPLY 1 40 30\r\nNATS/1.0\r\n\r\n{\"stream\":\"T\",\"seq\":1}\r\n")},
		{name: "a header cut short", answer: format("HMSG REPLY 1 12 34\r\nNATS/1.0 503")},
		{name: "a header with another status", answer: format("HMSG REPLY 1 16 16\r\nNATS/1.0 408\r\n\r\n\r\n"), says: []string{unreadable}},
		{name: "no responders", answer: format("HMSG REPLY 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"), says: []string{"no stream has the subject"}},

		// PubAcks without content, or for another message.
		{name: "an empty answer", answer: reply(""), says: []string{unreadable}},
		{name: "an empty object", answer: reply("{}"), says: []string{unreadable}},
		{name: "an answer that is no JSON", answer: reply("+ACK"), says: []string{unreadable}},
		{name: "half an answer", answer: reply(`{"stream":"TELEMETRY","seq":`), says: []string{unreadable}},
		{name: "no stream", answer: reply(`{"stream":"","seq":1}`), says: []string{unreadable}},
		{name: "sequence 0", answer: reply(`{"stream":"TELEMETRY","seq":0}`), says: []string{unreadable}},
		{name: "a negative sequence", answer: reply(`{"stream":"TELEMETRY","seq":-1}`), says: []string{unreadable}},
		{name: "a sequence that is too large", answer: reply(`{"stream":"TELEMETRY","seq":18446744073709551616}`), says: []string{unreadable}},
		{name: "duplicate and nothing else", answer: reply(`{"duplicate":true}`), says: []string{unreadable}},
		{name: "two answers in one", answer: reply(`{"stream":"T","seq":1}{"stream":"T","seq":1}`), says: []string{unreadable}},
		{name: "an answer of 1 MB", answer: reply(`{"stream":"T","x":"` + strings.Repeat("x", 1<<20) + `"}`), says: []string{unreadable}},
		{name: "a number not sent yet", answer: to("zz", "1"), says: []string{silence}},
		{name: "number 0", answer: to("0", "1"), says: []string{silence}},
		{name: "a number that is none", answer: to("-1", "1"), says: []string{silence}},
		{name: "an attempt that is too large", answer: func(c io.Writer, m natsMessage) {
			tokens := strings.Split(m.reply, ".")
			io.WriteString(c, msg(otherToken(m.reply, tokens[len(tokens)-2], "1z141z4"), `{"stream":"TELEMETRY","seq":1}`))
		}, says: []string{silence}}, // 2^32
		{name: "a refusal of another attempt", answer: func(c io.Writer, m natsMessage) {
			tokens := strings.Split(m.reply, ".")
			io.WriteString(c, msg(otherToken(m.reply, tokens[len(tokens)-2], "zzz"), `{"error":{"code":400,"err_code":10054}}`))
		}, says: []string{silence}},

		// Errors with unusual codes.
		{name: "an error without a code", answer: reply(`{"error":{}}`), says: []string{"JetStream error 0"}},
		{name: "an error with a stream and a sequence", answer: reply(`{"error":{"err_code":1},"stream":"TELEMETRY","seq":5}`), says: []string{"JetStream error 1"}},
		{name: "an error code of -1", answer: reply(`{"error":{"code":-1,"err_code":-1,"description":"x"}}`), says: []string{"JetStream error -1"}},
		{name: "an error code that is text", answer: reply(`{"error":{"err_code":"10054"}}`), says: []string{unreadable}},
		{name: "an error that is text", answer: reply(`{"error":"no"}`), says: []string{unreadable}},
		{name: "an error without end", answer: reply(`{"error":{"err_code":10077,"description":"` + strings.Repeat("x", 3000) + `"}}`), says: []string{"JetStream error 10077"}},
		{name: "the wrong stream", answer: reply(`{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}`), says: []string{"JetStream error 10060"}},
		{name: "too large, the quarantine copies too", answer: reply(`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}`), says: []string{"JetStream error 10054"}, refused: true},

		// Forgeries that the bridge cannot detect.
		{name: "PubAck for a discarded message", answer: func(c io.Writer, m natsMessage) {
			if m.payload == "0" {
				io.WriteString(c, msg(m.reply, `{"stream":"TELEMETRY","seq":1}`))
			}
		}, believed: true, says: []string{silence}},
		{name: "PubAck with a malformed header", answer: func(c io.Writer, m natsMessage) {
			if m.payload == "0" {
				io.WriteString(c, strings.ReplaceAll("HMSG REPLY 1 8 30\r\nNOTNATS\n{\"stream\":\"T\",\"seq\":1}\r\n", "REPLY", m.reply))
			}
		}, believed: true, says: []string{silence}},
		{name: "PubAck of no stream, to another try", answer: func(c io.Writer, m natsMessage) {
			if m.payload == "0" {
				tokens := strings.Split(m.reply, ".")
				io.WriteString(c, msg(otherToken(m.reply, tokens[len(tokens)-2], "zzz"), `{"stream":"NOWHERE","seq":9}`))
			}
		}, believed: true, says: []string{silence}},
	}
	for name, text := range map[string]string{
		"an unknown error": "-ERR 'x'\r\n", "a size beyond everything": "MSG x 1 99999999999999999999\r\n", "an answer that is no JSON": "MSG REPLY 1 1\r\nx\r\n",
	} {
		attacks = append(attacks, natsAttack{name: "control: " + name, answer: format(text), control: true, slow: true})
	}
	for _, text := range []string{
		"Unknown Protocol Operation", "Attempted To Connect To Route Port", "Authorization Violation", "Authentication Timeout",
		"User Authentication Expired", "User Authentication Revoked", "Account Authentication Expired", "Invalid Client Protocol",
		"Maximum Control Line Exceeded", "Parser Error", "Secure Connection - TLS Required", "Stale Connection",
		"maximum connections exceeded", "maximum account active connections exceeded", "Slow Consumer", "Maximum Payload Violation",
		"Invalid Subject", "Permissions Violation for Publish to \"tenant.x\"", "Permissions Violation for Subscription to \"_INBOX.x\"",
		"", "\xff\xfe", strings.Repeat("x", 1<<16),
	} {
		attacks = append(attacks, natsAttack{name: fmt.Sprintf("-ERR %.28q", text), answer: always("-ERR '" + text + "'\r\n")})
		if text == "Maximum Payload Violation" || text == "Invalid Subject" || text == "Slow Consumer" { // unknown to nats.go
			attacks[len(attacks)-1].says = []string{"the NATS server reports the error", text}
		}
	}
	return attacks
}

// natsRun is a bridge between a broker with five messages and a hostile server.
type natsRun struct {
	*hostileRun
	nats *hostileNATS
}

const natsMessages = 5

func startNATSRun(t *testing.T, js natsjs.JetStream, upstream, tenant string, a natsAttack) *natsRun {
	s := startHostileNATS(t, upstream, a)
	r := startHostileRun(t, js, "nats://"+s.addr, tenant, func(c *hostileConn, topic string) {
		c.open()
		for i := range natsMessages {
			c.Write(rawPublish(wire.QoS1, topic, uint16(i+1), fmt.Sprint(i)))
		}
		c.drain()
	}, proof.Settings{"nats.ack_timeout": "1s"})
	return &natsRun{r, s}
}

// After the release, every message is acknowledged and stored once and in order, except those
// with a forged answer.
func (r *natsRun) requireRecovery(lied int, refused bool) {
	r.t.Helper()
	close(r.nats.released)
	proof.Eventually(r.t, func() bool { return len(r.broker.acked()) == natsMessages }, func() any { return r.bridge.Problems() })
	got := r.stored()
	require.Len(r.t, got, natsMessages-lied)
	if refused {
		got = slices.DeleteFunc(got, func(m string) bool { return m == "quarantine.refused.device.d.t" })
		require.NotEqual(r.t, natsMessages, len(got))
		require.True(r.t, slices.IsSorted(got))
	} else {
		for i, m := range got {
			require.Equal(r.t, fmt.Sprint("device.d.t ", lied+i), m)
		}
	}
	require.Equal(r.t, []uint16{1, 2, 3, 4, 5}, r.broker.acked())
	proof.Eventually(r.t, func() bool { return len(r.bridge.Problems()) == 0 }, func() any { return r.bridge.Problems() })
}

func TestHostileNATSServer(t *testing.T) {
	t.Parallel()
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	upstream := strings.TrimPrefix(server.URL(), "nats://")
	_, addr := proof.StartBroker(t, broker.Options{})
	proof.AwaitReady(t, proof.StartInProcess(t, proof.PlainSettings("mqtt://"+addr, server.URL()))) // creates the streams
	for i, a := range natsAttacks() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			if a.slow && testing.Short() {
				t.Skip("waits for a time-out of several seconds")
			}
			r := startNATSRun(t, js, upstream, fmt.Sprintf("n%d", i), a)
			var said string
			proof.Eventually(t, func() bool {
				for _, p := range r.bridge.Problems() {
					if said = p.Component + ": " + p.Problem; p.Component != "mqtt" && p.Component != "lane" && (p.Component != "streams" || a.control) &&
						proof.ContainsAll(said, a.says) && (a.control || r.bridge.Totals().InFlight >= natsMessages-1) {
						return true
					}
				}
				return false
			}, func() any { return r.bridge.Problems() })
			t.Log(said)
			if a.control { // the lanes have connections of their own
				proof.Eventually(t, func() bool { return len(r.broker.acked()) == natsMessages }, func() any { return r.bridge.Problems() })
				r.requireRecovery(0, false)
				return
			}
			lied := 0
			if a.believed {
				lied = 1
				proof.Eventually(t, func() bool { return slices.Equal(r.broker.acked(), []uint16{1}) }, func() any { return r.broker.acked() })
			} else {
				require.Empty(t, r.broker.acked(), "acknowledged, and not stored")
			}
			require.Empty(t, r.stored())
			r.requireRecovery(lied, a.refused)
		})
	}
}

// The connection may end after any byte of an answer. Only a complete answer counts.
func TestTruncatedPubAck(t *testing.T) {
	t.Parallel()
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	upstream := strings.TrimPrefix(server.URL(), "nats://")
	const data = `{"stream":"TELEMETRY","seq":1}`
	size := len(msg("_INBOX.1234567890123456789012.1.1", data))
	step := 3
	if testrun.Quick() {
		step = 11
	}
	for left := 0; left < size; left += step {
		t.Run(fmt.Sprint(left, " bytes short"), func(t *testing.T) {
			t.Parallel()
			tried := make(chan struct{}, 100)
			r := startNATSRun(t, js, upstream, fmt.Sprintf("m%d", left), natsAttack{ends: true, answer: func(c io.Writer, m natsMessage) {
				if m.payload != "0" {
					return
				}
				answer := msg(m.reply, data)
				io.WriteString(c, answer[:max(len(answer)-left, 0)])
				select {
				case tried <- struct{}{}:
				default:
				}
			}})
			for range 2 {
				select {
				case <-tried:
				case <-time.After(testrun.Timeout):
					t.Fatal("the bridge does not try again")
				}
				if left == 0 {
					proof.Eventually(t, func() bool { return slices.Equal(r.broker.acked(), []uint16{1}) }, func() any { return r.broker.acked() })
					r.requireRecovery(1, false)
					return
				}
			}
			require.Empty(t, r.broker.acked())
			r.requireRecovery(0, false)
		})
	}
}
