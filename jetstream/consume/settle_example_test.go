package consume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

// A message is acknowledged once the handler has returned. Its effect must be durable before.
func ExampleMessage_Ack() {
	consumeAll([]string{"21.5", "22"}, func(m *consume.Message) {
		fmt.Printf("%s: %s\n", m.Subject, m.Data)
		m.Ack()
	})
	// Output:
	// tenant.acme.device.dev-1.telemetry: 21.5
	// tenant.acme.device.dev-1.telemetry: 22
}

// A message that cannot be processed now is delivered again, here after a millisecond.
func ExampleMessage_Nak() {
	consumeAll([]string{"21.5"}, func(m *consume.Message) {
		if m.Delivered == 1 {
			fmt.Println("database unavailable")
			m.Nak(time.Millisecond)
			return
		}
		fmt.Println("stored at delivery", m.Delivered)
		m.Ack()
	})
	// Output:
	// database unavailable
	// stored at delivery 2
}

// A message that can never be processed goes to quarantine with the reason, and is not delivered again.
func ExampleMessage_DeadLetter() {
	counts := consumeAll([]string{"21.5", "warm"}, func(m *consume.Message) {
		var temperature float64
		if _, err := fmt.Sscan(string(m.Data), &temperature); err != nil {
			m.DeadLetter(err)
			return
		}
		m.Ack()
	})
	fmt.Println(counts.Acked, "acked,", counts.Quarantined, "in quarantine")
	// Output: 1 acked, 1 in quarantine
}

// A message may be delivered twice, with the same id. Used as a key in a database, the id makes the
// second delivery harmless.
func ExampleMessage_ID() {
	rows := map[string]string{}
	consumeAll([]string{"21.5"}, func(m *consume.Message) {
		rows[m.ID()] = string(m.Data)
		if m.Delivered == 1 {
			m.Nak(0) // as if the acknowledgement were lost
			return
		}
		m.Ack()
	})
	fmt.Println(rows)
	// Output: map[bridge-0-1:21.5]
}

// NewWorkers checks the options and does no I/O: the connection may still be down.
func ExampleNewWorkers() {
	_, err := consume.NewWorkers(consume.Options{Stream: "TELEMETRY"})
	fmt.Println(err)
	// Output: set up workers: JetStream is required
}

// Hooks report events that the handler cannot see. If messages stop arriving, the workers keep
// retrying; FetchProblem reports each change of the cause once.
func ExampleHooks() {
	js, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	workers, err := consume.NewWorkers(consume.Options{
		JetStream: js, Stream: "TELEMETRY", Consumer: "nobody",
		Handler: func(context.Context, []*consume.Message) {},
		Hooks: consume.Hooks{
			FetchProblem: func(err error) {
				if errors.Is(err, natsjs.ErrConsumerNotFound) {
					fmt.Println("create the consumer")
					cancel()
				}
			},
			Quarantined:       func(m *consume.Message, cause error) { fmt.Println(m.Subject, cause) },
			QuarantineProblem: func(err error) { fmt.Println("quarantine takes nothing:", err) },
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	workers.Run(ctx)
	// Output: create the consumer
}

// consumeAll stores the payloads as the bridge does and runs one worker until all are settled.
func consumeAll(payloads []string, settle func(*consume.Message)) consume.Counts {
	js, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	for i, p := range payloads {
		id := natsjs.WithMsgID(fmt.Sprintf("bridge-0-%d", i+1))
		must(js.Publish(ctx, "tenant.acme.device.dev-1.telemetry", []byte(p), id))
	}
	consumer := must(js.Consumer(ctx, "TELEMETRY", "printer"))
	workers := must(consume.NewWorkers(consume.Options{
		JetStream: js, Stream: "TELEMETRY", Consumer: "printer", Workers: 1, BatchWait: 10 * time.Millisecond,
		Handler: func(_ context.Context, batch []*consume.Message) {
			for _, m := range batch {
				settle(m)
			}
		},
	}))
	go func() {
		defer cancel()
		for {
			info := must(consumer.Info(context.Background()))
			if info.NumPending == 0 && info.NumAckPending == 0 {
				return
			}
			time.Sleep(5 * time.Millisecond) // the polling interval
		}
	}()
	workers.Run(ctx)
	return workers.Counts()
}

// exampleServer is a nats-server in this process, with the streams and a consumer.
func exampleServer() (js natsjs.JetStream, stop func()) {
	dir := must(os.MkdirTemp("", "example"))
	server := must(embedded.Open(embedded.Options{StoreDir: dir, NoListen: true}))
	nc := must(nats.Connect("", nats.InProcessServer(server.InProcess())))
	js = must(natsjs.New(nc))
	must(streams.Manage(context.Background(), js, streams.ManageCreate,
		[]streams.Spec{{Name: "TELEMETRY", Subjects: []string{"tenant.>"}}, {Name: "QUARANTINE", Subjects: []string{"quarantine.>"}}},
		[]streams.ConsumerSpec{{Stream: "TELEMETRY", Name: "printer"}}))
	return js, func() {
		nc.Close()
		server.Close()
		os.RemoveAll(dir)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
