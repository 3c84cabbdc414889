package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// counts describes the contents of a stream.
type counts struct {
	total, unique int
	disordered    int // first copies stored after a later message of their device
}

// count reads the whole stream.
func (r *run) count() (counts, error) {
	c := counts{}
	info, err := r.stream.Info(context.Background())
	if err != nil || info.State.Msgs == 0 {
		return c, err
	}
	consumer, err := r.stream.OrderedConsumer(context.Background(), natsjs.OrderedConsumerConfig{})
	if err != nil {
		return c, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return c, err
	}
	defer messages.Stop()
	seen, newest := make([]bool, r.messages), make([]int, r.devices)
	for read := uint64(0); read < info.State.Msgs; {
		m, err := messages.Next()
		if err != nil {
			return c, err
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(m.Data())))
		read++
		if n == r.messages {
			continue // the message of the topic with a space
		}
		c.total++
		if err != nil || n < 0 || n >= r.messages {
			return c, errors.Join(fmt.Errorf("unexpected payload: %q", m.Data()), err)
		}
		if !seen[n] {
			seen[n] = true
			c.unique++
			if device := n % r.devices; n < newest[device] {
				c.disordered++
			} else {
				newest[device] = n
			}
		}
	}
	return c, nil
}
