package ingest

import (
	"context"
	"time"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/page"
)

// overview is the page of one ingest.
type overview struct{ ingest *Ingest }

// These are the titles of the charts.
const (
	chartStored      = "Messages stored"
	chartQuarantined = "Quarantined"
	chartLag         = "Lag"
)

// Measures implements [page.Source].
func (o *overview) Measures() []page.Measure {
	var all []page.Measure
	for _, t := range o.ingest.Tables() {
		all = append(all,
			page.Measure{Chart: chartStored, Name: t.Table, Value: float64(t.Acknowledged)},
			page.Measure{Chart: chartLag, Name: t.Table, Value: float64(t.Lag), Gauge: true},
			page.Measure{Chart: chartQuarantined, Name: t.Table, Value: float64(t.Quarantined)},
			page.Measure{Name: t.Table + " rows", Value: float64(t.Rows)})
	}
	return all
}

// View implements [page.Source].
func (o *overview) View(_ context.Context, h *page.History) page.View {
	i := o.ingest
	v := page.View{
		Program: "ingest", Version: i.opts.Version, Started: i.started.UTC(),
		// JSON null is not a list.
		Problems: append([]endpoint.Problem{}, i.Problems()...), Warnings: append([]endpoint.Problem{}, i.Warnings()...),
	}
	v.Ready = len(v.Problems) == 0
	var rows, lag, quarantined uint64
	rate := 0.0
	tables := i.Tables()
	for _, t := range tables {
		rows, lag, quarantined = rows+t.Rows, lag+t.Lag, quarantined+t.Quarantined
		rate += h.Rate("", t.Table+" rows")
	}
	v.Figures = []page.Figure{
		{Name: "Rows per second", Value: page.Rate(rate)}, {Name: "Rows", Value: page.Count(rows)},
		{Name: "Lag", Value: page.Count(lag)}, {Name: "Quarantined", Value: page.Count(quarantined)},
		{Name: "Running for", Value: page.Span(time.Since(i.started))},
	}
	v.Tables = []page.Table{tableTable(tables, h), exchangeTable(tables)}
	return v
}

func tableTable(tables []TableStatus, h *page.History) page.Table {
	t := page.Table{Title: "Tables", Columns: []page.Column{
		{Title: "Table"}, {Title: "Consumer"}, {Title: "Rows per second", Numeric: true}, {Title: "Rows", Numeric: true},
		{Title: "Duplicates", Numeric: true, Detail: true}, {Title: "Lag", Numeric: true}, {Title: "In progress", Numeric: true}, {Title: "Oldest in progress", Numeric: true},
		{Title: "Quarantined", Numeric: true},
	}}
	for _, s := range tables {
		lag := page.Text("–")
		if s.LagKnown {
			lag.Text = page.Count(s.Lag)
		}
		oldest := page.Text("–")
		if s.OldestSeconds > 0 {
			oldest.Text = page.Span(time.Duration(s.OldestSeconds * float64(time.Second)))
		}
		t.Rows = append(t.Rows, []page.Cell{
			page.Text(s.Table), page.Text(s.Stream + "/" + s.Consumer), page.Text(page.Rate(h.Rate("", s.Table+" rows"))), page.Text(page.Count(s.Rows)),
			page.Text(page.Count(s.Duplicates)), lag, page.Text(page.Count(uint64(s.InHand))), oldest, page.Text(page.Count(s.Quarantined)),
		})
	}
	return t
}

func exchangeTable(tables []TableStatus) page.Table {
	t := page.Table{Title: "Exchanges with the database", Columns: []page.Column{
		{Title: "Table"}, {Title: "Exchanges", Numeric: true}, {Title: "Failed", Numeric: true}, {Title: "Batches halved", Numeric: true},
		{Title: "Messages redelivered", Numeric: true}, {Title: "Messages nak'ed", Numeric: true}, {Title: "Clock not believed", Numeric: true},
	}}
	for _, s := range tables {
		t.Rows = append(t.Rows, []page.Cell{
			page.Text(s.Table), page.Text(page.Count(s.Exchanges)), page.Text(page.Count(s.Failures)), page.Text(page.Count(s.Halvings)),
			page.Text(page.Count(s.Redelivered)), page.Text(page.Count(s.Retried)), page.Text(page.Count(s.ClockIgnored)),
		})
	}
	return t
}
