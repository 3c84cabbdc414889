// Package browsertest drives a Chromium, for tests of the page.
// A test without the program is skipped, unless BRIDGE_REQUIRE_PEERS=1 demands it.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// Browser is a Chromium without a window, with one tab.
type Browser struct {
	t   *testing.T
	ctx context.Context // chromedp keeps the tab in it

	mu     sync.Mutex
	errors []string // what the page reported: exceptions, the console, blocked loads
	hosts  map[string]bool
}

// Start starts one that ends with the test. It is nothing for a short run.
func Start(t *testing.T) *Browser {
	t.Helper()
	if testing.Short() {
		t.Skip("takes a browser")
	}
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("BRIDGE_REQUIRE_PEERS") == "1" {
			t.Fatalf("%v, and BRIDGE_REQUIRE_PEERS=1 demands it", err)
		}
		t.Skip("chromium is not installed")
	}
	starting, giveUp := context.WithCancel(t.Context())
	// No sandbox: it needs rights that a container does not have, and the only page is ours.
	allocator, end := chromedp.NewExecAllocator(starting, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-GB"),
		chromedp.Env("TZ=UTC", "LANG=C.UTF-8"))...)
	t.Cleanup(end)
	b := &Browser{t: t, hosts: map[string]bool{}}
	b.ctx, _ = chromedp.NewContext(allocator, chromedp.WithListener(b.note))
	timeout := time.AfterFunc(testrun.Timeout, giveUp)
	defer timeout.Stop()
	require.NoError(t, chromedp.Do(b.ctx), "start chromium")
	return b
}

// note keeps what the page reports.
func (b *Browser) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown, *runtime.EventConsoleAPICalled, *log.EventEntryAdded:
		text, _ := json.Marshal(e)
		b.errors = append(b.errors, string(text))
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && u.Host != "" {
			b.hosts[u.Host] = true
		}
	}
}

func run[T any](b *Browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testrun.Timeout)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return value
}

func call[P, R any](b *Browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return run(b, func(ctx context.Context, tab *chromedp.Target) (R, error) { return cdp.Call(ctx, tab, command, params) })
}

// Open loads a page.
func (b *Browser) Open(url string) {
	b.t.Helper()
	run(b, chromedp.Navigate(url))
}

// Eval evaluates an expression, waits for it where it is a promise, and decodes its value
// into out; nil: discarded.
func (b *Browser) Eval(expression string, out any) {
	b.t.Helper()
	value := run(b, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise))
	if out != nil {
		require.NoError(b.t, json.Unmarshal(value, out), "%s gives %s", expression, value)
	}
}

// Text is what an element shows; empty where there is none.
func (b *Browser) Text(selector string) (text string) {
	b.t.Helper()
	b.Eval(fmt.Sprintf("(document.querySelector(%q) || {innerText: ''}).innerText", selector), &text)
	return text
}

// Wait returns once an expression is true. One that throws is not: the page may not be loaded.
func (b *Browser) Wait(expression, why string) {
	b.t.Helper()
	is := false
	for until := time.Now().Add(testrun.Timeout); !is; {
		b.Eval("(() => { try { return !!("+expression+") } catch { return false } })()", &is)
		if !is && time.Now().After(until) {
			b.t.Fatalf("%s; the page shows\n%s\nand reports %s", why, b.Text("body"), b.Errors())
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// Size sets the size of the window, in CSS pixels.
func (b *Browser) Size(width, height int) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: int64(height), DeviceScaleFactor: 1, Mobile: width < 500,
	})
}

// Dark has the page believe that its user prefers dark colours, or light ones.
func (b *Browser) Dark(dark bool) {
	b.t.Helper()
	value := "light"
	if dark {
		value = "dark"
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
	})
}

// Key presses a key of chromedp/kb, like kb.Tab.
func (b *Browser) Key(key string) {
	b.t.Helper()
	run(b, chromedp.KeyEvent(key))
}

// Screenshot returns the whole page as PNG, or at most height pixels of it.
func (b *Browser) Screenshot(width, height int) []byte {
	b.t.Helper()
	var full int
	b.Eval("document.documentElement.scrollHeight", &full)
	beyond := true
	return call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{
		CaptureBeyondViewport: &beyond, Clip: &page.Viewport{Width: float64(width), Height: float64(min(full, height)), Scale: 1},
	}).Data
}

// Errors are what the page has reported so far: exceptions, console lines, loads that
// failed or were blocked.
func (b *Browser) Errors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.errors)
}

// Hosts are all that were asked for something.
func (b *Browser) Hosts() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.hosts))
}
