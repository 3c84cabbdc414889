package drill

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/reconcile"
)

// maxListed is the number of lost messages, and of findings, that a report lists.
const maxListed = 10

// Report is the result of a drill. -o json prints it.
type Report struct {
	Run     string    `json:"run"` // in every payload, under "drill"
	OK      bool      `json:"ok"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"` // duration of publishing
	Broker  string    `json:"broker"`
	Devices int       `json:"devices"`
	Rate    float64   `json:"rate"` // requested rate, messages per second
	Window  int       `json:"window"`

	Published    int `json:"published"`
	Acknowledged int `json:"acknowledged"`
	Stored       int `json:"stored"`
	Lost         int `json:"lost"`
	Duplicated   int `json:"duplicated"`
	Resent       int `json:"resent"`
	Inversions   int `json:"inversions"`
	WrongDevice  int `json:"wrong_device"`
	// Quarantined counts the quarantined messages by reason.
	Quarantined map[string]int `json:"quarantined"`

	LongestGap       float64 `json:"longest_gap_seconds"`
	LongestDeviceGap float64 `json:"longest_device_gap_seconds"`
	LongestGapDevice string  `json:"longest_gap_device,omitempty"`
	ConnectionsLost  uint64  `json:"connections_lost"`
	ConnectsFailed   uint64  `json:"connects_failed"`
	Incomplete       string  `json:"incomplete,omitempty"` // why the streams could not be read completely
	// LostInQuarantined counts the lost messages of devices that have messages in quarantine.
	// LostBeforeEnd counts those acknowledged shortly before the device's connection ended.
	LostInQuarantined int `json:"lost_of_quarantined_devices,omitempty"`
	LostBeforeEnd     int `json:"lost_before_disconnect,omitempty"`

	FirstLost    []Message     `json:"first_lost,omitempty"`
	LastLost     *Message      `json:"last_lost,omitempty"`
	Findings     []Message     `json:"findings,omitempty"`
	Expectations []Expectation `json:"expectations,omitempty"`
}

// Message is one message that is lost, duplicated, out of order or under a wrong device.
type Message struct {
	Kind    string    `json:"kind"`
	Device  string    `json:"device"`
	Seq     int       `json:"seq"`
	At      time.Time `json:"at"` // when it was acknowledged, if lost; otherwise when it was stored
	Subject string    `json:"subject,omitempty"`
	ID      string    `json:"id,omitempty"`         // Nats-Msg-Id
	Stream  uint64    `json:"stream_seq,omitempty"` // sequence in its stream
}

func (d *drill) report(settled error) *Report {
	v := d.ledger.Verdict()
	r := &Report{
		Run: d.run, Started: d.started.UTC(), Seconds: seconds(d.ended.Sub(d.started)), Broker: d.o.Broker.String(),
		Devices: len(d.fleet.Devices), Rate: d.o.Rate, Window: d.o.Window,
		Published: v.Sent, Acknowledged: v.Acked, Stored: v.Stored, Lost: v.Lost, Duplicated: v.Duplicated,
		Resent: v.Resent, Inversions: v.Inversions, WrongDevice: v.Foreign,
		LongestGap: seconds(v.Gap), ConnectionsLost: d.disconnects.Load(),
	}
	gap, dev := d.ledger.LongestGap()
	if r.LongestDeviceGap = seconds(gap); dev >= 0 {
		r.LongestGapDevice = d.names[dev]
	}
	for _, device := range d.fleet.Devices {
		r.ConnectsFailed += device.Refused()
	}
	if settled != nil {
		r.Incomplete = settled.Error()
	}
	for _, m := range d.misbehave {
		r.Expectations = append(r.Expectations, m.outcome())
	}
	d.in.mu.Lock()
	r.Quarantined = d.in.reasons
	d.in.mu.Unlock()
	d.listMessages(r)
	r.OK = r.failure() == ""
	return r
}

// seconds returns t in seconds, rounded to milliseconds.
func seconds(t time.Duration) float64 { return t.Round(time.Millisecond).Seconds() }

// listMessages adds the lost messages and the findings.
func (d *drill) listMessages(r *Report) {
	lost := d.ledger.Lost()
	for i, f := range lost {
		m := d.message(f)
		if d.in.quarantined[m.Device] > 0 {
			r.LostInQuarantined++
		}
		if d.beforeDisconnect(f.Device, f.At) {
			r.LostBeforeEnd++
		}
		if i < maxListed {
			r.FirstLost = append(r.FirstLost, m)
		}
		if i == len(lost)-1 && i >= maxListed {
			r.LastLost = &m
		}
	}
	findings := d.ledger.Findings()
	for _, f := range findings[:min(len(findings), maxListed)] {
		r.Findings = append(r.Findings, d.message(f))
	}
}

func (d *drill) message(f reconcile.Finding) Message {
	m := Message{Kind: string(f.Kind), Seq: f.Seq, At: f.At.UTC(), Subject: f.Copy.Subject, ID: f.Copy.ID, Stream: f.Copy.Place}
	if m.Kind == string(reconcile.Foreign) {
		m.Kind = "wrong_device"
	}
	if f.Device >= 0 {
		m.Device = d.names[f.Device]
	}
	return m
}

// failure returns all failures in one line; empty: none.
func (r *Report) failure() string {
	var wrong []string
	for _, c := range []struct {
		n    int
		what string
	}{
		{r.Lost, "lost"}, {r.Duplicated, "duplicated"}, {r.Inversions, "out of order"}, {r.WrongDevice, "under a wrong device"},
	} {
		if c.n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if r.Acknowledged == 0 {
		wrong = append(wrong, "nothing was acknowledged")
	}
	if r.Incomplete != "" {
		wrong = append(wrong, r.Incomplete)
	}
	for _, e := range r.Expectations {
		if !e.OK {
			wrong = append(wrong, e.Name+" did not end as expected")
		}
	}
	return strings.Join(wrong, ", ")
}

func (r *Report) err() error {
	if r.OK {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrFailed, r.failure())
}

func (r *Report) write(o *Options) (err error) {
	if o.JSON {
		encoder := json.NewEncoder(o.Out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(r)
	} else {
		_, err = fmt.Fprint(o.Out, r.text())
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
