package jetstream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// API is the prefix of the subjects of requests to the streams.
const API = "$JS.API"

// NoMessage is the answer to a look-up of a message that is not stored.
const NoMessage = `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`

// StreamOf returns the stream that stores a subject.
func StreamOf(subject string) string {
	if strings.HasPrefix(subject, "quarantine.") {
		return quarantine
	}
	return Main
}

// lookUp answers a request to a stream. The leader answers from its replicated messages. A
// follower, which only a sabotage asks, answers from those it has.
func (s *Server) lookUp(m Message, from *socket) {
	if body, ok := s.unreadable(); ok {
		s.Logf("the server refuses a look-up: %q", body)
		if body != "-" {
			s.reply(from, m.reply, body)
		}
		return
	}
	if strings.Contains(m.Subject, ".STREAM.INFO.") {
		s.reply(from, m.reply, `{"ts":"`+s.now().UTC().Format(time.RFC3339Nano)+`"}`)
		return
	}
	var q struct {
		Subject string    `json:"next_by_subj"`
		Seq     int       `json:"seq"`
		Start   time.Time `json:"start_time"`
	}
	if err := json.Unmarshal([]byte(m.payload), &q); err != nil {
		panic(err)
	}
	log := s.log[:s.safe]
	if s.Follower {
		log = s.log[:min(s.stale, s.safe)]
	}
	for i, e := range log {
		if i+1 < q.Seq || e.stamp.Before(q.Start) {
			continue
		}
		q.Start = time.Time{} // the search begins there
		if e.Subject != q.Subject || !strings.HasSuffix(m.Subject, "."+e.Stream) || e.Purged {
			continue
		}
		s.Logf("the server finds message %d", e.number)
		header := base64.StdEncoding.EncodeToString([]byte("NATS/1.0\r\nNats-Msg-Id: " + e.ID + "\r\n\r\n"))
		s.reply(from, m.reply, fmt.Sprintf(`{"message":{"subject":%q,"seq":%d,"hdrs":%q}}`, e.Subject, i+1, header))
		return
	}
	s.Logf("the server finds nothing")
	s.reply(from, m.reply, NoMessage)
}
