package admin

import (
	"context"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/browsertest"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// hostile is a device whose name attacks the reader of the page.
const hostile = `<img src=x onerror=window.harmed=1>`

// site is a bridge with both peers, the broker's API, and messages with different results.
type site struct {
	broker *broker.Broker
	nats   *embedded.Server
	bridge *daemon.Bridge
	page   *endpoint.Server
	routes *routes
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	var err error
	s.broker, err = broker.Open(broker.Options{
		DeviceUsernames: true, Attest: true, AnyCN: true, Username: "bridge", Password: "secret",
		Services: broker.Zone{MaxInflight: 10, MaxQueue: 200},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.broker.Close() })
	api := httptest.NewServer(s.broker.API())
	t.Cleanup(api.Close)
	s.nats, err = embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: testrun.Address(t).Port})
	require.NoError(t, err)
	t.Cleanup(func() { s.nats.Close() })
	c, err := config.Load(config.Sources{Env: []string{
		"MQTT_URL=" + s.broker.URL(), "NATS_URL=" + s.nats.URL(), "BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD=secret",
		"BRIDGE_MQTT_EMQX_API=" + api.URL, "BRIDGE_MQTT_EMQX_KEY=k", "BRIDGE_MQTT_EMQX_SECRET=s",
		"BRIDGE_STOP_TIMEOUT=100ms",
	}})
	require.NoError(t, err)
	s.bridge, err = daemon.Open(t.Context(), daemon.Options{Config: c, Log: zerolog.Nop(), Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.bridge.Close(context.Background()) }) // leave the messages with the broker
	s.routes = Program(s.bridge).(*routes)
	anHourOf(s.routes.History())
	s.page, err = endpoint.Open(testrun.Address(t).String(), s.routes, zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(func() { s.page.Close() })
	require.Eventually(t, func() bool { return endpoint.Healthcheck(t.Context(), "the bridge", s.page.Addr()) == nil }, testrun.Timeout, 10*time.Millisecond)
	return s
}

// anHourOf generates an hour of history for a page, which no test can wait for: a wave of messages,
// and two periods with rejections. The counts end at 0, where the bridge's begin.
func anHourOf(h *page.History) {
	const step = 2 * time.Second
	n := int(time.Hour / step)
	received, limited, mismatched := make([]float64, n+1), make([]float64, n+1), make([]float64, n+1)
	for i := range n {
		at := float64(i) / float64(n)
		received[i+1] = received[i] + 2*(180+60*math.Sin(9*at)+25*math.Sin(70*at))
		limited[i+1], mismatched[i+1] = limited[i], mismatched[i]
		if at > 0.35 && at < 0.45 {
			limited[i+1] += 30 * math.Sin(math.Pi*(at-0.35)/0.1)
		}
		if at > 0.7 && at < 0.73 {
			mismatched[i+1] += 4
		}
	}
	begin := time.Now().Add(-time.Hour)
	for i := range n {
		rejected := limited[i] - limited[n] + mismatched[i] - mismatched[n]
		h.Add(begin.Add(time.Duration(i)*step), []page.Measure{
			{Chart: chartMessages, Name: "received", Value: received[i] - received[n]},
			{Chart: chartMessages, Name: "stored", Value: received[i] - received[n] - rejected},
			{Chart: chartQuarantined, Name: "rate_limited", Value: limited[i] - limited[n]},
			{Chart: chartQuarantined, Name: "cn_mismatch", Value: mismatched[i] - mismatched[n]},
			{Chart: chartBroker, Name: "messages", Value: 0, Gauge: true},
		})
	}
}

// work sends messages from devices; one in ten is rejected.
func (s *site) work(t *testing.T) {
	t.Helper()
	for i := range 12 {
		publish(t, s.broker, fmt.Sprintf("acme/dev-%d", i), fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", i), 20+i)
	}
	publish(t, s.broker, "acme/dev-3", "tenant/acme/device/dev-7/telemetry", 9)
	publish(t, s.broker, "globex/pump-1", "tenant/acme/device/dev-2/telemetry", 4)
	publish(t, s.broker, "globex/pump-2", "tenant/globex/device/pump-2/firmware", 3)
	publish(t, s.broker, "acme/dev-1", "tenant/acme/device/"+hostile+"/telemetry", 2)
	require.Eventually(t, func() bool { return s.bridge.Totals().InFlight == 0 }, testrun.Timeout, 10*time.Millisecond)
}

func (s *site) url() string { return "http://" + s.page.Addr() + "/" }

// open shows the page and waits until its content is loaded.
func open(t *testing.T, b *browsertest.Browser, s *site, width int) {
	t.Helper()
	b.Size(width, 900)
	b.Open(s.url())
	b.Wait(`document.querySelectorAll("#tables table").length >= 2`, "the page is not filled")
}

// picture saves a screenshot for the docs under -update.
func picture(t *testing.T, b *browsertest.Browser, name string, width, height int) {
	t.Helper()
	if !golden.Update() {
		return
	}
	dir := filepath.Join("..", "..", "docs", "images")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), browsertest.Small(t, b.Screenshot(width, height)), 0o644))
}

// outlive waits, for a screenshot, until the rates no longer include the generated hour and the
// broker's queues have been read.
func outlive(t *testing.T) {
	t.Helper()
	if golden.Update() {
		time.Sleep(15 * time.Second)
	}
}

func TestPageRendering(t *testing.T) {
	t.Parallel()
	b := browsertest.Start(t)
	s := newSite(t)
	s.work(t)
	outlive(t)
	s.work(t)
	for _, look := range []struct {
		name          string
		dark          bool
		width, height int
	}{{"page-light.png", false, 1200, 2200}, {"page-dark.png", true, 1200, 900}, {"page-360.png", false, 360, 3600}} {
		b.Dark(look.dark)
		open(t, b, s, look.width)
		picture(t, b, look.name, look.width, look.height)
		fits(t, b)
		readable(t, b)
	}
	require.Equal(t, "Ready", b.Text("#state"))
	for _, want := range []string{
		"bridge-p0", "connected", "TELEMETRY", "ingest-workers", "no active consumer", "acme/dev-7", "cn_mismatch",
		"mqtt-nats-bridge quarantine replay --reason=cn_mismatch --tenant=acme --device=dev-7 -c bridge.yaml",
	} {
		require.Contains(t, b.Text("body"), want)
	}
	require.Contains(t, b.Text("#tables"), hostile)
	var harmed bool
	b.Eval("!!window.harmed || document.querySelectorAll('img').length > 0", &harmed)
	require.False(t, harmed, "a device's name became markup")
	accessible(t, b)
	require.Equal(t, []string{s.page.Addr()}, b.Hosts())
	require.Empty(t, b.Errors())
	lostAndFound(t, b, s)
}

// lostAndFound stops the endpoint and starts it again.
func lostAndFound(t *testing.T, b *browsertest.Browser, s *site) {
	b.Dark(false)
	open(t, b, s, 1200)
	addr := s.page.Addr()
	s.page.Close()
	b.Wait(`!document.getElementById("lost").hidden`, "the page does not say that the bridge is gone")
	require.Regexp(t, "^mqtt-nats-bridge has not answered since .*. The page shows the state at that time", b.Text("#lost"))
	require.Equal(t, "No answer", b.Text("#state"))
	picture(t, b, "page-lost.png", 1200, 420)
	readable(t, b)
	var err error
	s.page, err = endpoint.Open(addr, s.routes, zerolog.Nop())
	require.NoError(t, err)
	b.Wait(`document.getElementById("lost").hidden && document.getElementById("state").innerText == "Ready"`, "the page does not come back")
}

func TestPage(t *testing.T) {
	t.Parallel()
	t.Run("unreachable NATS is shown", testUnreachableNATSIsShown)
	t.Run("broker queue is shown as it fills", testBrokerQueueIsShownAsItFills)
}

func testUnreachableNATSIsShown(t *testing.T) {
	t.Parallel()
	b := browsertest.Start(t)
	b.Dark(false)
	s := newSite(t)
	s.work(t)
	s.nats.Close()
	for i := range 12 {
		publish(t, s.broker, fmt.Sprintf("acme/dev-%d", i), fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", i), 10)
	}
	require.Eventually(t, func() bool { return endpoint.Healthcheck(t.Context(), "the bridge", s.page.Addr()) != nil }, testrun.Timeout, 10*time.Millisecond)
	open(t, b, s, 1200)
	outlive(t)
	b.Wait(`document.getElementById("state").innerText.startsWith("Not ready")`, "the page says ready")
	require.Contains(t, b.Text("#problems"), "nats: ")
	require.Equal(t, "rgb(164, 14, 38)", colour(b, "#state"))
	picture(t, b, "page-problem.png", 1200, 1050)
	fits(t, b)
	readable(t, b)
	b.Dark(true)
	readable(t, b)
}

func colour(b *browsertest.Browser, selector string) (c string) {
	b.Eval(fmt.Sprintf("getComputedStyle(document.querySelector(%q)).color", selector), &c)
	return c
}

func testBrokerQueueIsShownAsItFills(t *testing.T) {
	t.Parallel()
	b := browsertest.Start(t)
	b.Dark(false)
	s := newSite(t)
	s.nats.Close()
	cn := "acme/dev-1"
	waiting := func() (n int64) {
		for _, q := range s.bridge.Broker().Queues {
			n += q.Length
		}
		return n
	}
	for range 6 {
		publish(t, s.broker, cn, "tenant/acme/device/dev-1/telemetry", 30)
	}
	require.Eventually(t, func() bool { return waiting() > 160 }, testrun.Timeout, 100*time.Millisecond)
	open(t, b, s, 1200)
	b.Wait(`document.querySelector("#tables").innerText.includes(" of 200")`, "no queue is shown")
	b.Wait(`[...document.querySelectorAll("figure")].some(f => f.innerText.startsWith("Waiting at the broker") && /messages\s+1\d\d/.test(f.innerText))`, "no chart of the queue")
	picture(t, b, "page-broker.png", 1200, 1600)
	fits(t, b)
	readable(t, b)
}

// fits asserts that only tables scroll horizontally, within their frames.
func fits(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	var over int
	b.Eval("document.documentElement.scrollWidth - document.documentElement.clientWidth", &over)
	require.LessOrEqual(t, over, 0, "pixels wider than the window")
}

// readable asserts that all text meets WCAG 2 AA: a contrast of at least 4.5 to its background.
func readable(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	var bad []string
	b.Eval(contrastJS, &bad)
	require.Empty(t, bad)
}

const contrastJS = `(() => {
  const parse = (c) => c.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || ['SCRIPT', 'NOSCRIPT'].includes(e.tagName) || !e.checkVisibility()) continue;
    const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad.push(walk.currentNode.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return bad;
})()`

// accessible asserts landmarks, headings, a name for each element with a role, and headers in each
// table. All scrollable elements must be reachable by keyboard.
func accessible(t *testing.T, b *browsertest.Browser) {
	for selector, want := range map[string]int{
		"main": 1, "header": 1, "footer": 1, "nav[aria-label]": 1, "h1": 1, "[role=status]": 1, "[role=alert]": 1,
		"html[lang=en]": 1, "meta[name=viewport]": 1,
	} {
		var n int
		b.Eval(fmt.Sprintf("document.querySelectorAll(%q).length", selector), &n)
		require.Equal(t, want, n, selector)
	}
	var unnamed []string
	b.Eval(`[
      ...[...document.querySelectorAll("section, figure, [role=group], table")].filter((e) => {
        const by = e.getAttribute("aria-labelledby"); return !by || !document.getElementById(by) || !document.getElementById(by).innerText && e.checkVisibility(); }),
      ...[...document.querySelectorAll("thead th:not([scope=col]), tbody th:not([scope=row])")],
      ...[...document.querySelectorAll("tbody tr")].filter((r) => !r.querySelector("th[scope=row]")),
      ...[...document.querySelectorAll(".scroll")].filter((e) => e.scrollWidth > e.clientWidth && e.tabIndex !== 0),
      ...[...document.querySelectorAll("svg:not([aria-hidden])")],
    ].map((e) => e.outerHTML.slice(0, 200))`, &unnamed)
	require.Empty(t, unnamed)
	b.Eval("document.activeElement.blur(); window.scrollTo(0, 0)", nil)
	var reached []string
	for range 12 {
		b.Key(kb.Tab)
		var is string
		b.Eval(`document.activeElement.className || document.activeElement.getAttribute("href") || document.activeElement.tagName`, &is)
		reached = append(reached, is)
	}
	require.Equal(t, "skip", reached[0])
	require.Contains(t, reached, "scroll")
	require.Contains(t, reached, "status")
}

func TestPageContentTypes(t *testing.T) {
	t.Parallel()
	s := serve(t, unreachable()...)
	_, text := get(t, s, "/")
	require.True(t, strings.HasPrefix(text, "mqtt-nats-bridge\n"), text)
	for path, kind := range map[string]string{
		"/page/page.js": "text/javascript", "/page/page.css": "text/css", "/page/view": "application/json",
	} {
		code, _, header := ask(t, "GET", s, path)
		require.Equal(t, 200, code)
		require.Contains(t, header.Get("Content-Type"), kind)
		require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'")
		require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe")
	}
	code, _, _ := ask(t, "POST", s, "/page/view")
	require.Equal(t, 405, code)
}
