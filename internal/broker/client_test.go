package broker_test

import (
	"crypto/tls"
	"maps"
	"slices"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/testrun"
)

func start(t *testing.T, o broker.Options) *broker.Broker {
	t.Helper()
	b, err := broker.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// options returns the options of an MQTT 3.1.1 client without automatic reconnects.
func options(url, id string) *paho.ClientOptions {
	return paho.NewClientOptions().AddBroker(url).SetClientID(id).SetProtocolVersion(4).
		SetConnectRetry(false).SetAutoReconnect(false).SetConnectTimeout(testrun.Timeout)
}

func try(o *paho.ClientOptions) (paho.Client, error) {
	c := paho.NewClient(o)
	token := c.Connect()
	token.WaitTimeout(testrun.Timeout)
	return c, token.Error()
}

func connect(t *testing.T, o *paho.ClientOptions) paho.Client {
	t.Helper()
	c, err := try(o)
	require.NoError(t, err)
	require.True(t, c.IsConnected())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func wait(t *testing.T, token paho.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(testrun.Timeout), "no answer")
	require.NoError(t, token.Error())
}

// subscriber is a client with a persistent session. Only the test acknowledges its messages.
type subscriber struct {
	paho.Client
	got chan paho.Message
}

func subscribe(t *testing.T, b *broker.Broker, id string, change func(*paho.ClientOptions), filters ...string) *subscriber {
	t.Helper()
	s := &subscriber{got: make(chan paho.Message, 70_000)}
	o := options(b.URL(), id).SetCleanSession(false).SetAutoAckDisabled(true).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { s.got <- m })
	if change != nil {
		change(o)
	}
	s.Client = connect(t, o)
	for _, filter := range filters {
		token := s.Subscribe(filter, 1, nil).(*paho.SubscribeToken)
		wait(t, token)
		require.Equal(t, []byte{1}, granted(token), filter)
	}
	return s
}

// granted returns the SUBACK's codes. paho stores them under the filter without its
// $share/group prefix, so the keys are not usable.
func granted(token *paho.SubscribeToken) []byte {
	return slices.Collect(maps.Values(token.Result()))
}

func (s *subscriber) next(t *testing.T) paho.Message {
	t.Helper()
	select {
	case m := <-s.got:
		return m
	case <-time.After(testrun.Timeout):
		require.FailNow(t, "no message came")
		return nil
	}
}

// device connects over mTLS with a certificate for this CN.
func device(t *testing.T, b *broker.Broker, ca *pki.Authority, cn, username string) paho.Client {
	t.Helper()
	config, err := ca.ClientConfig(cn)
	require.NoError(t, err)
	return connect(t, options(b.TLSURL(), "device-"+t.Name()+cn).SetTLSConfig(config).SetUsername(username))
}

func authority(t *testing.T) (*pki.Authority, *tls.Config) {
	t.Helper()
	ca, err := pki.New()
	require.NoError(t, err)
	config, err := ca.ServerConfig()
	require.NoError(t, err)
	return ca, config
}
