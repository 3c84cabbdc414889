package conn

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// referenceAnswers reads a whole stream in one call; ackInterceptor must get the same result in
// pieces. It returns the data for nats.go, the answers, and whether the connection must end.
func referenceAnswers(stream string) (passed string, answers []string, bad bool) {
	for stream != "" {
		if stream[0] < ' ' || stream[0] > '~' {
			return passed + stream, answers, false
		}
		line, _, ended := strings.Cut(stream, "\n")
		if !strings.Contains("MmHh-", stream[:1]) {
			if !ended {
				return passed + stream, answers, len(line) > maxOther
			}
			passed += line + "\n"
			stream = stream[len(line)+1:]
			continue
		}
		if !ended && len(line) < maxLine {
			return passed + stream, answers, false // the stream is incomplete
		}
		if strings.HasPrefix(line, "HTTP/") {
			return passed + stream, answers, false
		}
		if !ended || len(line) >= maxLine {
			return passed, answers, true
		}
		if stream[0] == '-' {
			if !referenceKnown(line) {
				return passed, answers, true
			}
			passed += line + "\n"
			stream = stream[len(line)+1:]
			continue
		}
		fields := strings.Split(strings.TrimRight(line, "\r"), " ")
		last := fields[len(fields)-1]
		size, err := strconv.ParseInt("0"+last, 10, 64)
		if last == "" || err != nil || size > 64<<20 || len(fields) < 2 || fields[0] != "MSG" && fields[0] != "HMSG" {
			return passed, answers, true
		}
		body := stream[len(line)+1:]
		answer := len(fields) > 2 && fields[0] == "MSG" && strings.HasPrefix(fields[1], testInbox) && size <= maxAnswer
		if len(body) < int(size)+2 {
			return passed + stream, answers, false
		}
		if body[size:size+2] != "\r\n" {
			if !answer {
				passed += line + "\n" + body[:size]
			}
			return passed, answers, true
		}
		if answer {
			answers = append(answers, fields[1]+" "+body[:size])
		} else {
			passed += line + "\n" + body[:size+2]
		}
		stream = body[size+2:]
	}
	return passed, answers, false
}

var knownErrors = regexp.MustCompile(`^(stale connection|maximum (connections|account active connections|subscriptions) exceeded|unknown protocol operation|` +
	`permissions violation|authorization violation|user authentication (expired|revoked)|account authentication expired)`)

// referenceKnown reports whether nats.go continues after this -ERR.
func referenceKnown(line string) bool {
	text := strings.TrimSpace(line)
	text = strings.Trim(strings.TrimPrefix(text, "-ERR"), " '")
	return knownErrors.MatchString(strings.ToLower(text))
}

// However the stream is split, the passed data and the answers equal those of a reader of the whole
// stream.
func FuzzAnswerConn(f *testing.F) {
	long := strings.Repeat("x", maxLine)
	for _, stream := range []string{
		"INFO {}\r\n" + ack(1) + "PING\r\n" + ack(2),
		"MSG x 1 3\r\nabc\r\n" + ack(3),
		"MSG " + testInbox + " 1\r\n\r\n",
		"MSG " + testInbox + "1.1 1 -3\r\nabc\r\n" + ack(1),
		"MSG " + testInbox + "1.1 1 99999999999\r\nabc\r\n" + ack(1),
		"MSG " + testInbox + "1.1 1 5000\r\n" + ack(1),
		"MSG " + testInbox + "1.1\r\n\r\n" + ack(1),
		"HMSG " + testInbox + "1.1 1 12 12\r\nNATS/1.0\r\n\r\n\r\n" + ack(1),
		"HMSG " + testInbox + "1.1 1 12 2\r\n" + ack(1),
		"MSG " + testInbox + long + " 1 2\r\nab\r\n" + ack(1),
		"+OK\r\n-ERR 'x'\r\n" + ack(1) + "\r\n" + ack(2),
		"msg " + testInbox + "1.1 1 2\r\nab\r\n", "M\n", "H 0\r\n\r\n", "MSG  \r\n", "MSG x 1 2\r\nabc\r\n",
		"-ERR 'Permissions Violation for Publish to \"x\"'\r\n" + ack(1), "-ERR 'Stale Connection'\r\nMSG x 1 67108865\r\n", "HTTP/1.1 101 x\r\n",
	} {
		f.Add([]byte(stream), []byte{1, 5})
		f.Add([]byte(stream), []byte{})
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		passed, answers, bad := through(t, stream, sizes)
		wantPassed, wantAnswers, wantBad := referenceAnswers(string(stream))
		require.Equal(t, wantBad, bad)
		require.Equal(t, wantPassed, string(passed))
		require.Equal(t, wantAnswers, answers)
	})
}
