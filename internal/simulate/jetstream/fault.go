package jetstream

import (
	"slices"
	"strings"
	"time"
)

// refusals are the answers of streams that temporarily refuse a message. An empty body is status
// 503, and - is no answer at all.
var refusals = []string{
	"-", "-",
	"", "",
	`{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"TELEMETRY","seq":0}`,
	`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`,
	`{"error":{"code":500,"err_code":10009,"description":"not the leader"}}`,
	`{"error":{"code":500,"err_code":10118,"description":"stream is offline"}}`,
	`{"error":{"code":429,"err_code":10167,"description":"too many requests"}}`,
	`{"error":{"code":500,"err_code":10023,"description":"insufficient resources"}}`,
	`{"error":{"code":500,"err_code":10028,"description":"resource limits exceeded for server"}}`,
	`{"error":{"code":500,"err_code":10047,"description":"insufficient storage"}}`,
	`{"error":{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}}`,
	`{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}`,
	`{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"}}`,
	`{"error":{"code":503,"err_code":10076,"description":"JetStream not enabled"}}`,
	`{"error":{"code":503,"err_code":10039,"description":"JetStream not enabled for account"}}`,
	`{"error":{"code":500,"err_code":99999,"description":"of a later version"}}`,
	`{"stream":"TELEMETRY"}`,
	`+ERR`,
}

// readable lists the errors of streams that can still be read: full or sealed streams.
var readable = []string{"10077", "10023", "10028", "10047", "10002", "10060", "10109"}

// meeting is the first refusal of a message of a bridge.
type meeting struct {
	message int
	bridge  *Client
}

// Fault makes the streams refuse from now on.
func (s *Server) Fault(how, mask int) {
	if !s.faulty {
		s.faulty, s.refuses, s.mask, s.lastBad = true, refusals[how%len(refusals)], mask, time.Now()
		s.met = map[meeting]bool{}
		s.Logf("the streams begin to refuse: %q", s.refuses)
	}
}

// refused answers a message if the fault affects it, and reports whether it does.
func (s *Server) refused(m Message, from *socket) bool {
	if !s.faulty {
		return false
	}
	s.seen++
	if s.Ragged && s.mask>>(s.seen%12)&1 == 0 {
		return false
	}
	if by := (meeting{m.Number, from.link.client}); !s.met[by] {
		s.met[by], s.lastBad = true, time.Now()
	}
	s.Logf("the server refuses message %d: %q", m.Number, s.refuses)
	if s.refuses != "-" {
		s.reply(from, m.reply, s.refuses)
	}
	return true
}

// Leader replaces the leader. The new leader has only the first kept of the unreplicated messages,
// and no message is accepted until it is elected. Leader reports whether anything has changed.
func (s *Server) Leader(kept int, silent bool) bool {
	if !s.Replicated || s.faulty {
		return false
	}
	if silent {
		s.Fault(0, -1)
	} else {
		s.Fault(2, -1)
	}
	s.stale = s.safe
	s.skew = s.skewOf(kept)
	gone := s.log[min(s.safe+kept, len(s.log)):]
	for _, e := range gone {
		s.Logf("the new leader does not have message %d", e.number)
		delete(s.byID, e.Stream+" "+e.ID)
		s.copies[e.number] = slices.DeleteFunc(s.copies[e.number], func(c *Copy) bool { return c == e.Copy })
	}
	s.log = s.log[:len(s.log)-len(gone)]
	return true
}

// Faulty reports whether the streams refuse.
func (s *Server) Faulty() bool { return s.faulty }

// Silent reports whether refused messages get no answer.
func (s *Server) Silent() bool { return s.refuses == "-" }

// Recover ends a fault. A new leader answers nothing before it has applied its log.
func (s *Server) Recover() {
	s.faulty = false
	s.CommitAll()
}

// Inherit makes a new leader replicate and answer all messages of its predecessor, and accept no
// new ones.
func (s *Server) Inherit() {
	s.Recover()
	s.faulty = true
	s.Logf("the new leader answers for the messages it has and accepts no new ones yet")
	s.AnswerAll()
}

// TakeHalf processes the first half of the messages on each connection.
func (s *Server) TakeHalf() {
	for _, c := range s.sockets {
		s.takeFrom(c, (len(c.msgs)+1)/2)
	}
	s.sweep()
}

// Quiet returns the time since the latest first refusal of a message or the latest positive answer,
// whichever is shorter.
func (s *Server) Quiet() time.Duration { return min(time.Since(s.lastBad), time.Since(s.learned)) }

// Unheard reports whether the fault has affected only a bridge that has had no positive answer yet.
func (s *Server) Unheard() bool {
	if s.client == nil || s.client.heard {
		return false
	}
	for by := range s.met {
		if by.bridge != s.client {
			return false
		}
	}
	return !slices.ContainsFunc(s.sockets, func(c *socket) bool { return len(c.msgs) > 0 && c.link.client != s.client })
}

// unreadable returns the answer of a refusing stream to a look-up. ok is false if the stream can
// still be read.
func (s *Server) unreadable() (body string, ok bool) {
	if !s.faulty || slices.ContainsFunc(readable, func(code string) bool { return strings.Contains(s.refuses, code) }) {
		return "", false
	}
	return s.refuses, true
}

// leaderless reports whether replication has stopped.
func (s *Server) leaderless() bool {
	_, unreadable := s.unreadable()
	return unreadable && s.Replicated
}

// now returns the time on the leader's clock.
func (s *Server) now() time.Time { return time.Now().Add(s.skew) }

// skewOf returns the time by which a leader's clock is ahead of the bridge's. The clocks in a
// cluster differ by up to 4 s.
func (s *Server) skewOf(leader int) time.Duration {
	return s.Skew + time.Duration(leader%3-1)*2*time.Second
}
