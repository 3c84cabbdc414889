package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/measure"
	"mqtt-nats-bridge/jetstream/embedded"
)

// Serve runs the nats-server process of a bench. It prints the URLs for clients and for leaf nodes,
// and runs until ctx ends.
func Serve(ctx context.Context, out io.Writer, o ServerOptions) error {
	var options *natsd.Options
	srv, err := embedded.Open(embedded.Options{StoreDir: o.Store, Port: -1, Configure: func(opts *natsd.Options) {
		o.configure(opts)
		options = opts // the server writes its assigned port into options
	}})
	if err != nil {
		return err
	}
	defer srv.Close()
	fmt.Fprintln(out, srv.URL())
	fmt.Fprintf(out, "nats-leaf://127.0.0.1:%d\n", options.LeafNode.Port)
	<-ctx.Done()
	return nil
}

// place pads numbers to half the length of a broker's message id.
const place = "0000000000000000"

// BareOptions configures the bare publisher. Its fields are the command's flags.
type BareOptions struct {
	URL                    string `required:""`
	Messages, Size, Window int    `required:""`
	Devices                int    `required:""` // number of subjects, used in turn
	// Attested adds the headers that messages from attested topics have.
	Attested bool
}

// bareResult is the output of the bare publisher.
type bareResult struct {
	Seconds float64 // from the first publish to the last PubAck
	CPU     float64 // of the process during the run, s
}

// PublishBare runs the bare publisher's process. It stores the same messages as the bridge,
// including headers, and does only the necessary work: a message id, a PubAck on its own inbox and
// a window.
func PublishBare(ctx context.Context, out io.Writer, o BareOptions) error {
	nc, err := nats.Connect(o.URL, nats.SkipSubjectValidation())
	if err != nil {
		return err
	}
	defer nc.Close()
	inbox := nc.NewInbox() + "."
	var mu sync.Mutex
	room := sync.NewCond(&mu)
	inFlight, bad := 0, 0
	sub, err := nc.Subscribe(inbox+">", func(m *nats.Msg) {
		mu.Lock()
		if len(m.Data) < 10 || m.Data[2] != 's' { // {"stream":…
			bad++
		}
		inFlight--
		if inFlight <= o.Window*3/4 {
			room.Signal()
		}
		mu.Unlock()
	})
	if err != nil {
		return err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	payload := make([]byte, o.Size)
	id := []string{""}
	subjects := make([]string, max(o.Devices, 1))
	for d := range subjects {
		subjects[d] = fmt.Sprintf("tenant.t%02d.device.l00-%07d.telemetry", d%16, d)
	}
	m := &nats.Msg{Data: payload, Header: nats.Header{nats.MsgIdHdr: id}}
	if o.Attested {
		m.Header[bridge.HeaderCN] = []string{"t00/l00-0000000"}
		m.Header[bridge.HeaderTime] = []string{"2026-01-01T00:00:00.000Z"}
	}
	started, err := measure.CPUOf(os.Getpid())
	if err != nil {
		return err
	}
	begin := time.Now()
	run := fmt.Sprintf("%016X", begin.UnixNano())
	for i := range o.Messages {
		mu.Lock()
		for inFlight >= o.Window && ctx.Err() == nil {
			room.Wait()
		}
		inFlight++
		mu.Unlock()
		n := strconv.Itoa(i)
		id[0], m.Reply, m.Subject = run+place[:16-len(n)]+n, inbox+n, subjects[i%len(subjects)]
		if err := nc.PublishMsg(m); err != nil {
			return err
		}
	}
	mu.Lock()
	for inFlight > 0 && ctx.Err() == nil {
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
	}
	failures := bad
	mu.Unlock()
	if failures > 0 {
		return fmt.Errorf("%d publishes were refused", failures)
	}
	used, err := measure.CPUOf(os.Getpid())
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(bareResult{Seconds: time.Since(begin).Seconds(), CPU: (used - started).Seconds()})
}
