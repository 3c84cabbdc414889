package publish

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

// deafLink accepts all messages and answers none.
type deafLink struct{ sent []string }

func (l *deafLink) PublishMsg(m *nats.Msg) error {
	l.sent = append(l.sent, strings.Clone(m.Reply))
	return nil
}
func (l *deafLink) IsConnected() bool  { return true }
func (l *deafLink) Generation() uint64 { return 1 }
func (l *deafLink) BeginSend() bool    { return true }
func (l *deafLink) EndSend()           {}
func (l *deafLink) LastError() error   { return nil }
func (l *deafLink) MaxPayload() int64  { return 1 << 20 }
func (l *deafLink) Close()             {}

// verdicts records the results of messages, in order.
type verdicts []string

func (v *verdicts) Settle(r *bridge.Result) {
	s := strconv.FormatUint(r.Token, 10)
	switch {
	case r.Refused != nil:
		s += " refused"
	case r.Duplicate:
		s += " duplicate"
	}
	*v = append(*v, s)
}
func (v *verdicts) SettleDone() {}

const (
	fuzzedMessages = 5
	replyInbox     = "_INBOX.abc."
)

// answerModel models the permitted effects of answers on messages 1 to 5. A positive answer settles
// its message, a final refusal does so if it answers the latest attempt, and other answers have no
// effect.
type answerModel struct {
	attempt    [fuzzedMessages + 1]uint64
	done       [fuzzedMessages + 1]bool
	latest     uint64
	recovering bool
	probed     uint64 // the attempt of the recovery's first probe; 0: none yet
	want       verdicts
}

// tick models the publisher's timer: in a recovery it probes with the oldest message.
func (m *answerModel) tick() {
	if head := m.head(); m.recovering && head <= fuzzedMessages {
		m.latest++
		m.attempt[head] = m.latest
		if m.probed == 0 {
			m.probed = m.latest
		}
	}
}

func (m *answerModel) head() int {
	head := 1
	for head <= fuzzedMessages && m.done[head] {
		head++
	}
	return head
}

func (m *answerModel) answer(subject, data string) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 2 {
		return
	}
	number, attempt := base36(tokens[len(tokens)-2]), base36(tokens[len(tokens)-1])
	if number < 1 || number > fuzzedMessages || attempt < 0 || m.done[number] {
		return
	}
	var ack struct {
		Error *struct {
			Code int `json:"err_code"`
		}
		Stream    string
		Seq       uint64
		Duplicate bool
	}
	stored := json.Unmarshal([]byte(data), &ack) == nil
	refused := stored && ack.Error != nil
	stored = stored && ack.Error == nil && ack.Stream != "" && ack.Seq > 0
	switch {
	case stored:
	case uint64(attempt) != m.attempt[number]:
		return
	case refused && (ack.Error.Code == 10054 || ack.Error.Code == 10097 || ack.Error.Code == 10165 || ack.Error.Code == 10166):
	default:
		m.recovering = true
		return
	}
	verdict := strconv.Itoa(number)
	if !stored {
		verdict += " refused"
	} else if ack.Duplicate {
		verdict += " duplicate"
	}
	m.want = append(m.want, verdict)
	head := m.head()
	m.done[number] = true
	if m.head() != head && m.recovering && m.probed != 0 && uint64(attempt) >= m.probed {
		m.recovering, m.probed = false, 0
		m.latest++
		for i := range m.attempt {
			if !m.done[i] {
				m.attempt[i] = m.latest
			}
		}
	}
}

// base36 reads a number of up to 32 bits; it returns -1 for other text.
func base36(s string) int {
	n, ok := new(big.Int).SetString(s, 36)
	if !ok || strings.ContainsAny(s, "+-_") || n.BitLen() > 32 {
		return -1
	}
	return int(n.Int64())
}

// Whatever arrives at the reply inbox, a message is settled once: by a positive PubAck with its own
// number, or by a final refusal of its latest attempt. Each line of the script is an answer (the
// end of the reply subject, a space, the data) or a tick of the publisher's timer.
func FuzzAnswers(f *testing.F) {
	const good, full, large = `{"stream":"T","seq":1}`, `{"error":{"err_code":10077}}`, `{"error":{"err_code":10054}}`
	for _, lines := range [][]string{
		{"1.1 " + good, "2.1 " + `{"stream":"T","domain":"hub","seq":2,"duplicate": true}`},
		{"1.1 " + full, "1.1 " + good, "2.1 " + large, "2.2 " + large, "3.1 " + good, "4.3 " + large},
		{"1.1 " + full, "tick", "1.2 " + full, "tick", "1.2 " + large, "1.3 " + large, "2.1 " + large, "2.4 " + large, "tick"},
		{"2.1 " + full, "tick", "2.1 " + good, "1.1 " + good, "3.1 " + full, "tick", "3.2 " + full, "3.3 " + good, "4.4 " + large, "5.4 " + good},
		{"6.1 " + good, "0.1 " + good, "1 " + good, " " + good, "-1.1 " + good, "1.zzzzzzzz " + good, "1.1 " + full},
		{"x.1.1 " + good, "2.1 {}", "3.1 " + `{"error":{}}`, "3.1 " + `{"error":null,"stream":"T","seq":3}`, "4.1 "},
		{"5.1 " + good, "5.1 " + good, "4.1 " + large, "4.1 " + good, "1.1 " + `{"Stream":"T","SEQ":1}`},
	} {
		f.Add(strings.Join(lines, "\n"))
	}
	f.Fuzz(func(t *testing.T, script string) {
		var got verdicts
		var hear func(*nats.Msg, bool)
		link := &deafLink{}
		p, err := Open(Options{
			Open: func(h LinkHandlers) (Link, string, error) {
				hear = h.Answer
				return link, replyInbox, nil
			},
			Settler: &got, AckTimeout: time.Hour, Log: zerolog.Nop(),
			Jitter: func(time.Duration) time.Duration { return time.Hour }, // no automatic probe
		})
		require.NoError(t, err)
		p.Prove()
		defer p.Close()
		m := answerModel{latest: 1}
		for i := range fuzzedMessages {
			p.Publish(&bridge.Message{Token: uint64(i) + 1, Subject: []byte("t")})
			m.attempt[i+1] = 1
		}
		for line := range strings.SplitSeq(script, "\n") {
			if line == "tick" {
				p.tick()
				m.tick()
				continue
			}
			suffix, data, _ := strings.Cut(line, " ")
			hear(&nats.Msg{Subject: replyInbox + suffix, Data: []byte(data)}, false)
			m.answer(replyInbox+suffix, data)
		}
		require.Equal(t, m.want, got)
		require.Equal(t, fuzzedMessages+1-m.head(), p.Stats().Unsettled)
		for i, reply := range link.sent[:fuzzedMessages] {
			require.Equal(t, replyInbox+strconv.Itoa(i+1)+".1", reply)
		}
	})
}
