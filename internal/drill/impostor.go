package drill

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/fleet"
)

// impostor is a device that publishes to the topic of the fleet's first device.
type impostor struct {
	d      *drill
	device *fleet.Device
}

func newImpostor(d *drill) *impostor {
	o := d.o.device(d.crew.other, "drill-"+d.run+"-impostor")
	topic := d.o.topic(d.crew.fleet[0])
	o.Every, o.Reconnect, o.Drain = time.Second, true, time.Second
	o.Message = func(n int) (string, []byte) {
		return topic, mark{d.run, roleImpostor, d.crew.other.CN, n}.payload(d.o.Size)
	}
	return &impostor{d: d, device: fleet.New(o)}
}

func (i *impostor) act(ctx context.Context) {
	// The error is ignored: the broker may never acknowledge these messages.
	_ = i.device.Run(ctx)
	i.device.Disconnect()
}

func (i *impostor) outcome() Expectation {
	in := &i.d.in
	in.mu.Lock()
	defer in.mu.Unlock()
	rejected := total(in.impostor)
	var by []string
	for _, reason := range slices.Sorted(maps.Keys(in.impostor)) {
		by = append(by, fmt.Sprintf("%d %s", in.impostor[reason], reason))
	}
	seen := fmt.Sprintf("%d published, %d acknowledged, %d stored as %s, %d in quarantine", i.device.Sent(), i.device.Acked(), in.impostorVictim, i.d.names[0], rejected)
	if by != nil {
		seen += " (" + strings.Join(by, ", ") + ")"
	}
	if dropped := int(i.device.Acked()) - in.impostorVictim - rejected; dropped > 0 {
		seen += fmt.Sprintf(", %d dropped by the broker", dropped)
	}
	if n := i.device.Connections(); n > 1 {
		seen += fmt.Sprintf(", disconnected %d times", n-1)
	}
	return Expectation{
		Name:     "impostor",
		Expected: fmt.Sprintf("messages that %s publishes as %s are never stored as %[2]s", i.d.crew.other.CN, i.d.names[0]),
		Seen:     seen,
		OK:       in.impostorVictim == 0 && i.device.Sent() > 0,
	}
}
