package measure

import (
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// JetStream connects to the server at url and calls do.
func JetStream(url string, do func(natsjs.JetStream) error, opts ...natsjs.JetStreamOpt) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := natsjs.New(nc, opts...)
	if err != nil {
		return err
	}
	return do(js)
}
