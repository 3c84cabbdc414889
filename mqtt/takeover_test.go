package mqtt

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// early ends a connection of which an answer is due.
var early = map[string]func(p *peer, present bool){
	"CONNACK": func(p *peer, _ bool) { p.read(); p.Close() },
	"SUBACK":  func(p *peer, present bool) { p.connack(present); p.read(); p.Close() },
}

func TestCloseBeforeAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer   string
		alone    bool // no other lane is subscribed
		worked   bool // a connection that worked was closed before
		together bool // with those of the other lanes
		present  bool
		refused  bool
	}{
		"SUBACK, a new process":          {answer: "SUBACK", alone: true, present: true, refused: true},
		"SUBACK, new, others granted":    {answer: "SUBACK", present: true},
		"SUBACK, new, no session":        {answer: "SUBACK", refused: true},
		"SUBACK, taken over":             {answer: "SUBACK", worked: true, present: true},
		"SUBACK, taken over, clean":      {answer: "SUBACK", worked: true},
		"SUBACK, all lanes taken over":   {answer: "SUBACK", worked: true, together: true, present: true},
		"SUBACK, the broker restarts":    {answer: "SUBACK", worked: true, together: true, refused: true},
		"CONNACK, a new process":         {answer: "CONNACK", refused: true},
		"CONNACK, taken over":            {answer: "CONNACK", worked: true},
		"CONNACK, the broker restarts":   {answer: "CONNACK", worked: true, together: true, refused: true},
		"CONNACK, all lanes, with state": {answer: "CONNACK", worked: true, together: true, present: true, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				peers := NewPeers(2)
				var lanes []*Session
				var brokers []*scripted
				for i := range 2 {
					b := inMemory(t)
					lanes = append(lanes, b.open(&recorder{}, withFilters(sharedFilter), func(o *Options) {
						o.Peers, o.KeepAlive, o.ClientID = peers, time.Hour, fmt.Sprint("bridge-p", i)
					}))
					brokers = append(brokers, b)
				}
				end := early[c.answer]
				var other *peer
				if !c.alone {
					other = brokers[1].connected(true)
					synctest.Wait()
				}
				if c.worked {
					p := brokers[0].connected(true)
					synctest.Wait()
					p.Close()
				}
				if c.together {
					other.Close()
				}
				for n := range unansweredEnds + 1 {
					end(brokers[0].accept(), c.present)
					synctest.Wait()
					problem := lanes[0].Status().Problem
					if c.refused || n == unansweredEnds {
						require.Contains(t, problem, "instead of answering", "end %d", n)
					} else {
						require.Equal(t, ErrClosedByBroker.Error(), problem, "end %d", n)
					}
				}
			})
		})
	}
}

func TestTakeoverWithEarlyCloses(t *testing.T) {
	for answer, end := range early {
		t.Run(answer, func(t *testing.T) {
			virtual(t, func(t *testing.T, b *scripted) {
				log := &lines{}
				s := b.open(&recorder{}, log.into)
				for range takeoverEnds {
					p := b.connected(true)
					synctest.Wait()
					p.Close()
					end(b.accept(), true)
					synctest.Wait()
				}
				require.Contains(t, s.Status().Problem, "another client seems to use the client id bridge-0")
				require.Zero(t, log.count("refused")+log.count("instead of"), "%s", log)
			})
		})
	}
}

func TestCloseByBroker(t *testing.T) {
	t.Parallel()
	t.Run("close right after SUBACK is not a refusal", testCloseRightAfterSUBACKIsNotARefusal)
	t.Run("close while retiring is not a refusal", testCloseWhileRetiringIsNotARefusal)
}

// The broker has granted the filters and then closes: that is no refusal, whatever
// came first out of paho.
func testCloseRightAfterSUBACKIsNotARefusal(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		for range 100 {
			s := b.open(&recorder{})
			b.connected(true).Close()
			synctest.Wait()
			require.NotContains(t, s.Status().Problem, "refused")
			s.Close()
		}
	})
}

func testCloseWhileRetiringIsNotARefusal(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{}, func(o *Options) { o.Retiring = true })
		early["SUBACK"](b.accept(), true)
		synctest.Wait()
		require.Equal(t, ErrClosedByBroker.Error(), s.Status().Problem)
	})
}
