package publish

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

// A message has its own headers and none of the previous message.
func TestHeaderOfEachMessage(t *testing.T) {
	t.Parallel()
	message := func(id string, headers ...string) *bridge.Message {
		m := &bridge.Message{ID: []byte(id)}
		for i := 0; i < len(headers); i += 2 {
			m.Headers = append(m.Headers, bridge.Header{Name: headers[i], Value: []byte(headers[i+1])})
		}
		return m
	}
	p := &Publisher{}
	p.msg.Header = nats.Header{}
	for i, c := range []struct {
		m    *bridge.Message
		want nats.Header
	}{
		{message(""), nats.Header{}},
		{message("1"), nats.Header{"Nats-Msg-Id": {"1"}}},
		{message("2"), nats.Header{"Nats-Msg-Id": {"2"}}},
		{message("3", "A", "x"), nats.Header{"Nats-Msg-Id": {"3"}, "A": {"x"}}},
		{message("4", "A", "y"), nats.Header{"Nats-Msg-Id": {"4"}, "A": {"y"}}},
		{message("", "A", "y"), nats.Header{"A": {"y"}}},
		{message("5", "B", "z"), nats.Header{"Nats-Msg-Id": {"5"}, "B": {"z"}}},
		{message("6", "B", "1", "A", "2"), nats.Header{"Nats-Msg-Id": {"6"}, "B": {"1"}, "A": {"2"}}},
		{message("7", "A", "3", "B", "4"), nats.Header{"Nats-Msg-Id": {"7"}, "A": {"3"}, "B": {"4"}}},
		{message("8", "A", "5", "B", "6"), nats.Header{"Nats-Msg-Id": {"8"}, "A": {"5"}, "B": {"6"}}},
		{message("9"), nats.Header{"Nats-Msg-Id": {"9"}}},
	} {
		p.setHeader(c.m)
		require.Equal(t, c.want, p.msg.Header, i)
	}
}
