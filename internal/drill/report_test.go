package drill

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/reconcile"
)

func passed() *Report {
	return &Report{
		Run: "K7Q2M4XW9A", OK: true, Started: time.Date(2026, 11, 26, 14, 2, 3, 0, time.UTC), Seconds: 60.04,
		Broker: "mqtts://emqx:8883", Devices: 100, Rate: 500, Window: 20,
		Published: 30_012, Acknowledged: 30_012, Stored: 30_040, Resent: 28, Quarantined: map[string]int{},
		LongestGap: 1.21, LongestDeviceGap: 2.04, LongestGapDevice: "drill/d-17", ConnectionsLost: 100, ConnectsFailed: 231,
		Expectations: []Expectation{{Name: "burst", Expected: "all stored", Seen: "all stored", OK: true}},
	}
}

func failed() *Report {
	r := passed()
	at := r.Started.Add(10 * time.Second)
	r.OK, r.Lost, r.Duplicated, r.WrongDevice, r.LostInQuarantined = false, 12, 1, 1, 3
	r.Quarantined = map[string]int{"rate_limited": 7, "cn_mismatch": 2}
	r.FirstLost = []Message{{Kind: "lost", Device: "drill/d-1", Seq: 42, At: at}}
	r.LastLost = &Message{Kind: "lost", Device: "drill/d-9", Seq: 51, At: at.Add(time.Minute)}
	r.Findings = []Message{{Kind: "wrong_device", Device: "drill/d-2", Seq: 7, At: at, Subject: "tenant.drill.device.d-3.telemetry", ID: "0006", Stream: 4711}}
	r.Incomplete = "read stream TELEMETRY: at 3 of 4"
	r.Expectations = append(r.Expectations, Expectation{Name: "hijack", Expected: "nothing", Seen: "everything"})
	return r
}

func TestReportText(t *testing.T) {
	t.Parallel()
	golden.Require(t, "testdata/text.golden", passed().text()+failed().text())
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*Report{"passed": passed(), "failed": failed()} {
		var out bytes.Buffer
		require.NoError(t, r.write(&Options{Out: &out, JSON: true}))
		golden.Require(t, "testdata/"+name+".json.golden", out.String())
	}
}

func TestReportFailure(t *testing.T) {
	t.Parallel()
	require.NoError(t, passed().err())
	require.ErrorIs(t, failed().err(), ErrFailed)
	require.EqualError(t, failed().err(), "the drill failed: 12 lost, 1 duplicated, 1 under a wrong device, read stream TELEMETRY: at 3 of 4, hijack did not end as expected")
	r := passed()
	r.Acknowledged = 0
	require.Equal(t, "nothing was acknowledged", r.failure())
}

func TestTable(t *testing.T) {
	t.Parallel()
	s := &sample{
		At: 12400 * time.Millisecond, For: time.Minute, Connected: 99, Devices: 100, Rate: 498.7, Quiet: 140 * time.Millisecond,
		Verdict: reconcile.Verdict{Sent: 6_200, Acked: 6_190, Stored: 6_180, Lost: 10, Resent: 3, Gap: 420 * time.Millisecond},
		Trouble: "1 s ago a connection was lost: EOF",
	}
	lines := table(s, 80)
	require.Len(t, lines, tableHeight)
	waiting := *s
	waiting.Phase = "waiting for 10 messages"
	golden.Require(t, "testdata/table.golden", strings.Join(lines, "\n")+"\n"+strings.Join(table(&waiting, 80), "\n")+"\n"+line(s)+"\n"+line(&waiting)+"\n")
	for _, columns := range []int{50, 79, 80, 200} {
		for _, l := range table(s, columns) {
			require.Less(t, utf8.RuneCountInString(l), min(columns, 80), l)
		}
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	m := mark{"K7Q2M4XW9A", roleFleet, `drill/d "1"`, 7}
	for name, data := range map[string][]byte{
		"small":    m.payload(0),
		"padded":   m.payload(256),
		"envelope": []byte(`{"topic":"x","payload":` + string(m.payload(100)) + `,"ts":1}`),
	} {
		got, ok := readMark("K7Q2M4XW9A", data)
		require.True(t, ok, name)
		require.Equal(t, m, got, name)
	}
	require.Len(t, m.payload(256), 256)
	for _, other := range []string{"", "{}", "21.5", `{"drill":"ANOTHER000"}`, `"K7Q2M4XW9A"`, `{"payload":"K7Q2M4XW9A"}`} {
		_, ok := readMark("K7Q2M4XW9A", []byte(other))
		require.False(t, ok, other)
	}
}
