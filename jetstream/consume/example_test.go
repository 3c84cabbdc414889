package consume_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"

	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/consume"
)

// A minimal consumer: it prints temperatures. Run any number of instances; they share the messages.
func ExampleWorkers() {
	nc, err := conn.Connect(conn.Options{URL: os.Getenv("NATS_URL"), Name: "printer"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer nc.Close()
	js, err := conn.Options{}.JetStream(nc)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	workers, err := consume.NewWorkers(consume.Options{
		JetStream: js, Stream: "TELEMETRY", Consumer: "printer",
		Handler: func(_ context.Context, batch []*consume.Message) {
			for _, m := range batch {
				var reading struct{ Temperature float64 }
				if err := json.Unmarshal(m.Data, &reading); err != nil {
					m.DeadLetter(err) // a copy in quarantine, with the reason
					continue
				}
				fmt.Println(m.Subject, reading.Temperature)
				m.Ack() // acknowledged once the handler has returned
			}
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	workers.Run(ctx) // until Ctrl-C; then the batches in flight are finished
}
