package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/brokerwatch"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/streamstatus"
)

// overview provides the page's content for one bridge.
type overview struct{ bridge *daemon.Bridge }

// The titles of the charts.
const (
	chartMessages    = "Messages"
	chartQuarantined = "Quarantined"
	chartBroker      = "Waiting at the broker"
)

// Measures implements [page.Source].
func (o *overview) Measures() []page.Measure {
	t := o.bridge.Totals()
	all := []page.Measure{
		{Chart: chartMessages, Name: "received", Value: float64(t.Received)},
		{Chart: chartMessages, Name: "stored", Value: float64(t.Stored)},
	}
	for _, reason := range verdict.Reasons() {
		if n := t.Quarantined[reason]; n > 0 {
			all = append(all, page.Measure{Chart: chartQuarantined, Name: reason.String(), Value: float64(n)})
		}
	}
	if t.QuarantineSkipped > 0 {
		all = append(all, page.Measure{Chart: chartQuarantined, Name: "rejected, not stored", Value: float64(t.QuarantineSkipped)})
	}
	if b := o.bridge.Broker(); b != nil {
		waiting := int64(0)
		for _, q := range b.Queues {
			waiting += q.Length
		}
		all = append(all, page.Measure{Chart: chartBroker, Name: "messages", Value: float64(waiting), Gauge: true})
	}
	for _, l := range o.bridge.LaneTotals() {
		all = append(all, page.Measure{Name: l.ClientID + " received", Value: float64(l.Received)},
			page.Measure{Name: l.ClientID + " stored", Value: float64(l.Stored)})
	}
	return all
}

// View implements [page.Source].
func (o *overview) View(ctx context.Context, h *page.History) page.View {
	now := time.Now()
	s := o.bridge.Status(ctx)
	return page.View{
		Program: "mqtt-nats-bridge", Version: s.Version, Started: s.Started,
		Ready: s.Ready, Problems: s.Problems, Warnings: s.Warnings,
		Figures: figures(&s, h, now),
		Tables: slices.DeleteFunc([]page.Table{
			laneTable(&s, h), o.deviceTable(now), streamTable(&s, now), consumerTable(&s),
			replicaTable(&s, now), o.quarantineTable(ctx, now),
		}, func(t page.Table) bool { return t.Title == "" }),
	}
}

func figures(s *daemon.Status, h *page.History, now time.Time) []page.Figure {
	all := []page.Figure{
		{Name: "Received per second", Value: page.Rate(h.Rate(chartMessages, "received"))},
		{Name: "Stored per second", Value: page.Rate(h.Rate(chartMessages, "stored"))},
		{Name: "Received", Value: page.Count(s.Totals.Received)},
		{Name: "Stored", Value: page.Count(s.Totals.Stored)},
		{Name: "Rejected", Value: page.Count(sum(s.Totals.Rejected))},
		{Name: "In flight", Value: page.Count(uint64(s.Totals.InFlight))},
		{Name: "Time to store (p50, p99)", Value: latency(&s.Totals)},
		{Name: "Devices known", Value: page.Count(uint64(s.Devices.Known))},
	}
	if n := s.Totals.QoS0Dropped; n > 0 {
		all = append(all, page.Figure{Name: "QoS 0 dropped", Value: page.Count(n)})
	}
	if b := s.Broker; b != nil {
		all = append(all, page.Figure{Name: "Dropped by the broker, queue full", Value: page.Count(b.QueueFull)})
	}
	if l := s.Leaf; l != nil {
		link := "down since " + page.Ago(l.Link.Since, now)
		if l.Link.Connected {
			link = "up"
		}
		all = append(all, page.Figure{Name: "Link to the hub", Value: link},
			page.Figure{Name: "Waiting for the hub", Value: page.Count(l.Messages)})
	}
	return append(all, page.Figure{Name: "Running for", Value: page.Span(time.Duration(s.UptimeSeconds) * time.Second)})
}

func latency(t *daemon.CountsStatus) string {
	if t.Stored == 0 {
		return "–"
	}
	return millis(t.AckLatency.P50) + ", " + millis(t.AckLatency.P99)
}

func millis(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func sum(counts map[string]uint64) (n uint64) {
	for _, v := range counts {
		n += v
	}
	return n
}

func laneTable(s *daemon.Status, h *page.History) page.Table {
	t := page.Table{Title: "Lanes", Empty: "No lane.", Columns: []page.Column{
		{Title: "Lane"}, {Title: "State"}, {Title: "Received per second", Numeric: true}, {Title: "Stored per second", Numeric: true},
		{Title: "In flight", Numeric: true}, {Title: "Buffer", Numeric: true},
	}}
	queues := map[string]brokerwatch.QueueStatus{}
	if s.Broker != nil {
		t.Columns = append(t.Columns, page.Column{Title: "Queue at the broker", Numeric: true})
		for _, q := range s.Broker.Queues {
			queues[q.ClientID] = q
		}
		t.Note = s.Broker.Problem
	}
	for i := range s.Lanes {
		l := &s.Lanes[i]
		row := []page.Cell{
			page.Text(l.ClientID), laneState(l),
			page.Text(page.Rate(h.Rate("", l.ClientID+" received"))), page.Text(page.Rate(h.Rate("", l.ClientID+" stored"))),
			page.Text(page.Count(uint64(l.Counts.InFlight))), page.FillCell(l.RingFill),
		}
		if s.Broker != nil {
			row = append(row, queueCell(queues, l.ClientID))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func laneState(l *daemon.LaneStatus) page.Cell {
	switch {
	case l.Lease != nil && !l.Lease.Here && l.Lease.Owner != "":
		return page.Text("with " + cmp.Or(l.Lease.Host, l.Lease.Owner))
	case !l.Open:
		return page.Cell{Text: "not open", Level: page.Bad}
	case !l.Session.Connected:
		return page.Cell{Text: "no MQTT connection", Level: page.Bad}
	case !l.Session.Subscribed:
		return page.Cell{Text: "not subscribed", Level: page.Bad}
	case !l.NATS.Connected:
		return page.Cell{Text: "no NATS connection", Level: page.Bad}
	case l.NATS.Problem != "":
		return page.Cell{Text: "not storing", Level: page.Bad}
	case l.CatchingUp:
		return page.Cell{Text: "catching up", Level: page.Warn}
	case l.Session.Retiring:
		return page.Text("retiring")
	}
	return page.Text("connected")
}

func queueCell(queues map[string]brokerwatch.QueueStatus, lane string) page.Cell {
	q, ok := queues[lane]
	switch {
	case !ok:
		return page.Text("–")
	case q.Limit <= 0:
		return page.Text(page.Count(uint64(max(q.Length, 0))))
	}
	c := page.FillCell(float64(q.Length) / float64(q.Limit))
	c.Text = fmt.Sprintf("%s of %s", page.Count(uint64(max(q.Length, 0))), page.Count(uint64(q.Limit)))
	if q.Dropped > 0 {
		c.Text += fmt.Sprintf(", %s dropped", page.Count(q.Dropped))
		c.Level = page.Bad
	}
	return c
}

// topRejected is the number of devices on the page.
const topRejected = 10

func (o *overview) deviceTable(now time.Time) page.Table {
	t := page.Table{Title: "Devices with most rejections", Empty: "No message was rejected.", Columns: []page.Column{
		{Title: "Device", Long: true}, {Title: "Rejected", Numeric: true}, {Title: "Received", Numeric: true}, {Title: "Reasons", Long: true}, {Title: "Last seen", Numeric: true, Detail: true},
	}}
	for _, d := range o.bridge.TopDevices(topRejected, limit.ByRejected) {
		if d.Rejections() == 0 {
			break
		}
		t.Rows = append(t.Rows, []page.Cell{
			page.Text(d.Tenant + "/" + d.Device), page.Text(page.Count(d.Rejections())), page.Text(page.Count(d.Received)),
			page.Text(reasons(d.Rejected)), page.Text(page.Ago(d.LastSeen, now)),
		})
	}
	return t
}

// reasons lists counts, the largest first.
func reasons(counts map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = name + " " + page.Count(counts[name])
	}
	return strings.Join(names, ", ")
}

func streamTable(s *daemon.Status, now time.Time) page.Table {
	t := page.Table{Title: "Streams", Empty: "No stream is configured.", Columns: []page.Column{
		{Title: "Stream"}, {Title: "Fill", Numeric: true}, {Title: "Messages", Numeric: true}, {Title: "Size", Numeric: true},
		{Title: "Oldest", Numeric: true, Detail: true}, {Title: "Newest", Numeric: true},
	}}
	for _, st := range s.Streams {
		if st.State == nil {
			t.Note = st.Name + ": " + st.Problem
			t.Rows = append(t.Rows, []page.Cell{
				page.Text(st.Name), {Text: "unknown", Level: page.Bad}, page.Text("–"), page.Text("–"), page.Text("–"), page.Text("–"),
			})
			continue
		}
		t.Rows = append(t.Rows, []page.Cell{
			page.Text(st.Name), streamFill(st.State), page.Text(page.Count(st.Messages)), page.Text(page.Bytes(st.Bytes)),
			page.Text(page.Ago(st.FirstTime, now)), page.Text(page.Ago(st.LastTime, now)),
		})
	}
	return t
}

// streamFill shows a warning only if the full stream would refuse messages. A stream that discards
// its oldest messages is usually full.
func streamFill(s *streamstatus.State) page.Cell {
	fill, limited := s.Fill()
	if !limited {
		return page.Text("no limit")
	}
	c := page.FillCell(fill)
	if !s.DiscardsNew {
		c.Level = ""
	}
	return c
}

func consumerTable(s *daemon.Status) page.Table {
	t := page.Table{Title: "Consumers", Columns: []page.Column{
		{Title: "Consumer"}, {Title: "Stream"}, {Title: "Lag", Numeric: true}, {Title: "In progress", Numeric: true},
		{Title: "Redelivered", Numeric: true, Detail: true}, {Title: "State"},
	}, Empty: "No consumer is declared."}
	for _, st := range s.Streams {
		if st.State == nil {
			t.Empty = "Unknown while a stream cannot be read."
			continue
		}
		for _, c := range st.Consumers {
			state := page.Text("pulling")
			switch {
			case c.Problem != "":
				state = page.Cell{Text: c.Problem, Level: page.Warn}
			case c.Waiting == 0 && c.AckPending == 0:
				state = page.Cell{Text: "no active consumer", Level: page.Warn}
			}
			t.Rows = append(t.Rows, []page.Cell{
				page.Text(c.Name), page.Text(st.Name), page.Text(page.Count(c.Lag)), page.Text(page.Count(uint64(max(c.AckPending, 0)))),
				page.Text(page.Count(uint64(max(c.Redelivered, 0)))), state,
			})
		}
	}
	return t
}

// replicaTable returns a table without a title if partitions are not shared.
func replicaTable(s *daemon.Status, now time.Time) page.Table {
	if s.Replicas == nil {
		return page.Table{}
	}
	t := page.Table{Title: "Replicas", Empty: "No replica is known yet.", Columns: []page.Column{
		{Title: "Replica"}, {Title: "Partitions"}, {Title: "State"}, {Title: "Version", Detail: true}, {Title: "Running since", Numeric: true},
	}}
	for _, r := range s.Replicas.All {
		name, state := r.Host, page.Text("connected")
		if r.ID == s.Replicas.Replica {
			name += " (this one)"
		}
		switch {
		case r.Leaving:
			state = page.Text("leaving")
		case !r.Connected:
			state = page.Cell{Text: "no MQTT connection", Level: page.Bad}
		}
		t.Rows = append(t.Rows, []page.Cell{
			page.Text(name), page.Text(r.Partitions), state, page.Text(r.Version), page.Text(page.Ago(r.Started, now)),
		})
	}
	return t
}

// latestQuarantined is the number of quarantined messages on the page.
const latestQuarantined = 10

func (o *overview) quarantineTable(ctx context.Context, now time.Time) page.Table {
	t := page.Table{Title: "Last quarantined", Empty: "The quarantine is empty.", Columns: []page.Column{
		{Title: "When"}, {Title: "Reason"}, {Title: "Topic", Long: true}, {Title: "Why", Long: true, Detail: true}, {Title: "To replay, after the cause is fixed", Command: true},
	}}
	messages, err := o.bridge.Quarantined(ctx, latestQuarantined)
	if err != nil {
		t.Note, t.Empty = err.Error(), "Unknown."
		return t
	}
	for i := range messages {
		m := &messages[i]
		t.Rows = append(t.Rows, []page.Cell{
			page.Text(page.Ago(m.Stored, now)), page.Text(m.Reason), page.Text(m.Topic), page.Text(m.Detail), page.Text(m.Replay("bridge.yaml")),
		})
	}
	return t
}
