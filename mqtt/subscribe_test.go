package mqtt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

const (
	plainFilter  = "tenant/+/device/+/+"
	otherFilter  = "tenant/+/device/+/shadow/reported"
	sharedFilter = "$share/bridge-p3/bridge/v1/3/#"
)

func withFilters(filters ...string) func(*Options) {
	return func(o *Options) { o.Filters = filters }
}

// silence requires that the session says nothing more on this connection for a while.
func (p *peer) silence(d time.Duration) {
	p.t.Helper()
	require.NoError(p.t, p.SetReadDeadline(time.Now().Add(d)))
	cp, err := packets.ReadPacket(p)
	require.ErrorIs(p.t, err, os.ErrDeadlineExceeded, "%v", cp)
	require.NoError(p.t, p.SetReadDeadline(time.Now().Add(time.Hour)))
}

// unsubscribed answers the next packet, which must be an UNSUBSCRIBE.
func (p *peer) unsubscribed() []string {
	p.t.Helper()
	u, ok := p.read().(*packets.UnsubscribePacket)
	require.True(p.t, ok)
	p.send(packet(0xb0, []byte{byte(u.MessageID >> 8), byte(u.MessageID)}))
	return u.Topics
}

func TestSubscriptionRefusal(t *testing.T) {
	for name, refuse := range map[string]func(p *peer){
		"SUBACK 0x80":           func(p *peer) { p.grant(func(string) byte { return 0x80 }); p.rest() },
		"SUBACK 0x80 and close": func(p *peer) { p.grant(func(string) byte { return 0x80 }); p.Close() },
		"close":                 func(p *peer) { p.read(); p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, b *scripted) {
				log := &lines{}
				s := b.open(&recorder{}, log.into, withFilters(sharedFilter))
				for n, base := range []time.Duration{0, 1, 2, 4, 8, 15} {
					begun := time.Now()
					p := b.accept()
					if n > 0 {
						require.InDelta(t, base*time.Second, time.Since(begun), float64(base*time.Second)/4+1)
					}
					p.connack(true)
					refuse(p)
					synctest.Wait()
					require.Contains(t, s.Status().Problem, "the broker refused the subscription to "+sharedFilter)
					require.False(t, s.Status().Takeover)
				}
				b.connected(true)
				synctest.Wait()
				require.Empty(t, s.Status().Problem)
				require.Empty(t, s.Status().Refused)
				require.Zero(t, s.Status().TakenOverAt, "the broker's own doing")
				require.Zero(t, log.count("another client"), "%s", log)
			})
		})
	}
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	t.Run("partial refusal reconnects after a delay", testPartialRefusalReconnectsAfterADelay)
	t.Run("broker restart is retried with short pauses", testBrokerRestartIsRetriedWithShortPauses)
	t.Run("granted filters are not resubscribed", testGrantedFiltersAreNotResubscribed)
	t.Run("shared filters are always resubscribed", testSharedFiltersAreAlwaysResubscribed)
	t.Run("new session unsubscribes nothing", testNewSessionUnsubscribesNothing)
	t.Run("filters are stored across processes", testFiltersAreStoredAcrossProcesses)
	t.Run("lost session is dated", testLostSessionIsDated)
}

func testPartialRefusalReconnectsAfterADelay(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{}, withFilters(plainFilter, otherFilter))
		p := b.accept()
		p.connack(false)
		p.grant(func(f string) byte { return map[string]byte{plainFilter: 1, otherFilter: 0x80}[f] })
		begun := time.Now()
		packet := p.read()
		if _, ping := packet.(*packets.PingreqPacket); ping { // due at the same moment
			packet = p.read()
		}
		require.IsType(t, &packets.DisconnectPacket{}, packet)
		require.Equal(t, partialGrantTime, time.Since(begun))
		p.Close()
		next := b.accept()
		require.Equal(t, []string{otherFilter + " (return code 0x80: not allowed for this user, see the broker's ACL)"}, s.Status().Refused)
		next.connack(true)
		next.grant(func(string) byte { return 1 })
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
	})
}

func testBrokerRestartIsRetriedWithShortPauses(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{}, withFilters(sharedFilter), func(o *Options) { o.KeepAlive = time.Hour })
		p := b.connected(false)
		time.Sleep(time.Minute) // virtual
		p.Close()
		for n := range 60 { // a broker that starts up for a minute or two
			begun := time.Now()
			p := b.accept()
			require.LessOrEqual(t, time.Since(begun), 2*time.Second, "attempt %d", n)
			switch n % 3 {
			case 0: // before CONNACK
			case 1:
				p.read()
				p.send([]byte{0x20, 2, 0, 5})
			case 2:
				p.connack(false)
				p.grant(func(string) byte { return 0x80 })
			}
			p.Close()
		}
		b.connected(false)
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
		require.False(t, s.Status().Takeover)
	})
}

func testGrantedFiltersAreNotResubscribed(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{}, withFilters(plainFilter), func(o *Options) { o.KeepAlive = time.Hour })
		p := b.connected(false)
		synctest.Wait()
		p.garble()
		p = b.accept()
		p.connack(true)
		p.silence(time.Minute)
		require.True(t, s.Status().Subscribed)
		require.Equal(t, []string{plainFilter}, s.Status().Granted)
		p.garble()
		p = b.accept()
		p.connack(false) // the session is new, and so without a subscription
		p.grant(func(string) byte { return 1 })
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
		p.Close()
		// The broker closed it and was there: it may have been another client's.
		b.connected(true)
		synctest.Wait()
		require.NotZero(t, s.Status().TakenOverAt)
		require.True(t, s.Status().Subscribed)
	})
}

// garble ends the connection for a reason that is not the broker's close.
func (p *peer) garble() {
	p.t.Helper()
	p.send([]byte{0xff, 0xff, 0xff, 0xff, 0xff})
	p.rest()
}

func testSharedFiltersAreAlwaysResubscribed(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		former := []string{"bridge/v1/3/#", "bridge/v1/3/+/+/+/" + plainFilter, sharedFilter}
		s := b.open(&recorder{}, withFilters(sharedFilter), func(o *Options) { o.Former = former })
		p := b.accept()
		p.connack(true)
		sub := p.grant(func(string) byte { return 1 })
		require.Equal(t, []string{sharedFilter}, sub.Topics)
		require.Equal(t, former[:2], p.unsubscribed(), "after SUBSCRIBE, and never what is configured")
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
		p.Close()
		p = b.connected(true)
		p.silence(time.Second)
	})
}

func testNewSessionUnsubscribesNothing(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		b.open(&recorder{}, withFilters(sharedFilter), func(o *Options) { o.Former = []string{plainFilter} })
		b.connected(false).silence(time.Second)
	})
}

func testFiltersAreStoredAcrossProcesses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bridge-0.filters")
	b := listen(t, nil)
	open := func(filters ...string) *Session {
		return b.open(&recorder{}, withFilters(filters...), func(o *Options) { o.FilterFile = file })
	}
	leave := func(s *Session, p *peer) {
		go func() { p.rest(); p.Close() }()
		s.Close()
	}

	s := open(plainFilter, otherFilter)
	p := b.accept()
	p.connack(true) // of a version that left no file
	require.ElementsMatch(t, []string{plainFilter, otherFilter}, p.grant(func(string) byte { return 1 }).Topics)
	eventually(t, s, func(Status) bool { return fileHas(file, `"complete":true`) })
	leave(s, p)

	s = open(otherFilter, plainFilter) // in another order
	p = b.accept()
	p.connack(true)
	eventually(t, s, subscribed)
	p.send(pong) // nothing else is on its way
	leave(s, p)

	s = open(plainFilter, "new/+")
	p = b.accept()
	p.connack(true)
	require.ElementsMatch(t, []string{plainFilter, "new/+"}, p.grant(func(string) byte { return 1 }).Topics)
	require.Equal(t, []string{otherFilter}, p.read().(*packets.UnsubscribePacket).Topics)
	leave(s, p) // before UNSUBACK

	s = open("last/+")
	p = b.accept()
	p.connack(true)
	require.Equal(t, []string{"last/+"}, p.grant(func(string) byte { return 1 }).Topics)
	require.ElementsMatch(t, []string{plainFilter, "new/+", otherFilter}, p.unsubscribed(), "none is forgotten")
	eventually(t, s, func(Status) bool { return fileHas(file, `{"filters":["last/+"],"complete":true}`) })
	leave(s, p)

	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	s = open("last/+")
	p = b.connected(true) // subscribes: nothing is known
	eventually(t, s, subscribed)
	leave(s, p)
}

func fileHas(path, text string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.Contains(string(b), text)
}

func TestTakeoverAcrossLanes(t *testing.T) {
	for name, c := range map[string]struct {
		apart time.Duration
		taken bool
	}{"together": {time.Millisecond, false}, "one after the other": {time.Second, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				peers := NewPeers(3)
				var lanes []*Session
				var brokers []*scripted
				for i := range 3 {
					b := inMemory(t)
					lanes = append(lanes, b.open(&recorder{}, withFilters(sharedFilter), func(o *Options) {
						o.Peers, o.KeepAlive, o.ClientID = peers, time.Hour, fmt.Sprint("bridge-p", i)
					}))
					brokers = append(brokers, b)
				}
				var conns []*peer
				for _, b := range brokers {
					conns = append(conns, b.connected(true))
				}
				for range 2 * takeoverEnds {
					synctest.Wait()
					for i := range conns {
						conns[i].Close()
						if c.taken {
							conns[i] = brokers[i].connected(true)
						}
						time.Sleep(c.apart) // virtual
					}
					if !c.taken {
						for i := range conns {
							conns[i] = brokers[i].connected(true)
						}
					}
				}
				synctest.Wait()
				for _, s := range lanes {
					st := s.Status()
					require.True(t, st.Subscribed)
					require.Equal(t, c.taken, !st.TakenOverAt.IsZero())
					require.Equal(t, c.taken, st.Takeover)
				}
			})
		})
	}
}

func testLostSessionIsDated(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{}, withFilters(sharedFilter))
		p := b.connected(false)
		synctest.Wait()
		require.Zero(t, s.Status().LostAt)
		p.Close() // kicked
		b.connected(false)
		synctest.Wait()
		st := s.Status()
		require.Equal(t, st.Since, st.LostAt)
		require.Zero(t, st.TakenOverAt, "there is a better word for it")
	})
}
