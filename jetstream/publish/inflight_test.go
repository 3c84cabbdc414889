package publish

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

func TestStrictOrderInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link := &wire{}
		var handlers LinkHandlers
		p, err := Open(Options{
			Open:    func(h LinkHandlers) (Link, string, error) { handlers = h; return link, "r.", nil },
			Settler: settleNothing{}, Jitter: func(d time.Duration) time.Duration { return d }, StrictOrder: true,
		})
		require.NoError(t, err)
		p.Prove()
		answer := func(reply, body string) {
			handlers.Answer(&nats.Msg{Subject: reply, Data: []byte(body)}, false)
		}
		const stored = `{"stream":"S","seq":1}`
		for i, device := range "abaca" {
			p.Publish(&bridge.Message{Token: uint64(i), OrderKey: uint64(device), Subject: []byte("all.devices"), Payload: fmt.Append(nil, i)})
		}
		sent := link.taken()
		require.Len(t, sent, 2, "a and b; the second a waits, and what follows behind it")
		answer(sent[1], stored)
		require.Empty(t, link.taken())
		answer(sent[0], stored)
		sent = link.taken()
		require.Len(t, sent, 2, "the second a, and c")

		// A refusal and the following recovery do not change that.
		answer(sent[0], `{"error":{"code":503,"err_code":10008}}`)
		time.Sleep(minPause + time.Millisecond)
		probe := link.taken()
		require.Len(t, probe, 1)
		answer(probe[0], stored)
		sent = link.taken()
		require.Len(t, sent, 2, "c again, and the third a")
		answer(sent[0], stored)
		answer(sent[1], stored)
		require.Zero(t, p.Stats().Unsettled)
		require.Empty(t, p.inFlightKeys, "nothing is left behind")
		p.Close()
	})
}
