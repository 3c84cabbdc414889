// Package browsertest drives a Chromium by its DevTools protocol, for tests of the page.
// A test without the program is skipped, unless BRIDGE_REQUIRE_PEERS=1 demands it.
package browsertest

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// Browser is a Chromium without a window, with one tab.
type Browser struct {
	t    *testing.T
	conn *websocket.Conn
	last int

	mu      sync.Mutex
	waiting map[int]chan answer
	errors  []string // what the page reported: exceptions, the console, blocked loads
	hosts   map[string]bool
}

type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
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
	// No sandbox: it needs rights that a container does not have, and the only page is ours.
	c := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars",
		"--lang=en-GB", "--remote-debugging-port=0", "--user-data-dir="+t.TempDir(), "about:blank")
	c.Env = append(os.Environ(), "TZ=UTC", "LANG=C.UTF-8")
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	said := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if _, url, ok := strings.Cut(lines.Text(), "DevTools listening on "); ok {
				said <- url
			}
		}
	}()
	b := &Browser{t: t, waiting: map[int]chan answer{}, hosts: map[string]bool{}}
	t.Cleanup(func() {
		if b.conn != nil {
			_ = b.conn.Close()
		}
		_ = c.Process.Kill()
		<-ended
		_ = c.Wait()
	})
	select {
	case url := <-said:
		b.attach(url)
	case <-ended:
		t.Fatal("chromium ended before it listened")
	case <-time.After(testrun.Timeout):
		t.Fatal("chromium does not listen")
	}
	return b
}

// attach connects to the tab.
func (b *Browser) attach(devtools string) {
	host := strings.Split(strings.TrimPrefix(devtools, "ws://"), "/")[0]
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testrun.Timeout}
	response, err := client.Get("http://" + host + "/json/list")
	require.NoError(b.t, err)
	defer response.Body.Close()
	var tabs []struct {
		Type string `json:"type"`
		URL  string `json:"webSocketDebuggerUrl"`
	}
	require.NoError(b.t, json.NewDecoder(response.Body).Decode(&tabs))
	for _, tab := range tabs {
		if tab.Type == "page" && b.conn == nil {
			b.conn, _, err = websocket.DefaultDialer.DialContext(b.t.Context(), tab.URL, nil)
			require.NoError(b.t, err)
		}
	}
	require.NotNil(b.t, b.conn, "no tab")
	done := make(chan struct{})
	go func() { defer close(done); b.read() }()
	b.t.Cleanup(func() { _ = b.conn.Close(); <-done })
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.Call(domain+".enable", nil)
	}
}

func (b *Browser) read() {
	for {
		var a answer
		if b.conn.ReadJSON(&a) != nil {
			return
		}
		b.mu.Lock()
		if c, ok := b.waiting[a.ID]; ok && a.ID > 0 {
			delete(b.waiting, a.ID)
			c <- a
		}
		b.note(a)
		b.mu.Unlock()
	}
}

// note keeps what the page reports. b.mu is held.
func (b *Browser) note(a answer) {
	switch a.Method {
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
		b.errors = append(b.errors, string(a.Params))
	case "Network.requestWillBeSent":
		var p struct {
			Request struct {
				URL string `json:"url"`
			} `json:"request"`
		}
		if json.Unmarshal(a.Params, &p) == nil && strings.Contains(p.Request.URL, "://") {
			b.hosts[strings.Split(p.Request.URL, "/")[2]] = true
		}
	}
}

// Call sends a command of the DevTools protocol and returns its result.
func (b *Browser) Call(method string, params any) json.RawMessage {
	b.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	b.last++
	c := make(chan answer, 1)
	b.mu.Lock()
	b.waiting[b.last] = c
	b.mu.Unlock()
	require.NoError(b.t, b.conn.WriteJSON(map[string]any{"id": b.last, "method": method, "params": params}))
	select {
	case a := <-c:
		if a.Error != nil {
			b.t.Fatalf("%s: %s", method, a.Error.Message)
		}
		return a.Result
	case <-time.After(testrun.Timeout):
		b.t.Fatalf("%s: no answer", method)
		return nil
	}
}

// Open loads a page.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.Call("Page.navigate", map[string]any{"url": url})
}

// Eval evaluates an expression, waits for it where it is a promise, and decodes its value
// into out; nil: discarded.
func (b *Browser) Eval(expression string, out any) {
	b.t.Helper()
	result := b.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	require.NoError(b.t, json.Unmarshal(result, &r))
	require.Empty(b.t, string(r.Exception), expression)
	if out != nil {
		require.NoError(b.t, json.Unmarshal(r.Result.Value, out), "%s gives %s", expression, r.Result.Value)
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
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
}

// Dark has the page believe that its user prefers dark colours, or light ones.
func (b *Browser) Dark(dark bool) {
	b.t.Helper()
	value := "light"
	if dark {
		value = "dark"
	}
	b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": value}}})
}

// Key presses a key, like Tab.
func (b *Browser) Key(name string, code int) {
	b.t.Helper()
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		b.Call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code})
	}
}

// Screenshot returns the whole page as PNG, or at most height pixels of it.
func (b *Browser) Screenshot(width, height int) []byte {
	b.t.Helper()
	var full int
	b.Eval("document.documentElement.scrollHeight", &full)
	result := b.Call("Page.captureScreenshot", map[string]any{
		"format": "png", "captureBeyondViewport": true,
		"clip": map[string]any{"x": 0, "y": 0, "width": width, "height": min(full, height), "scale": 1},
	})
	var r struct {
		Data string `json:"data"`
	}
	require.NoError(b.t, json.Unmarshal(result, &r))
	image, err := base64.StdEncoding.DecodeString(r.Data)
	require.NoError(b.t, err)
	return image
}

// Errors are what the page has reported so far: exceptions, console lines, loads that
// failed or were blocked.
func (b *Browser) Errors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.errors...)
}

// Hosts are all that were asked for something.
func (b *Browser) Hosts() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for host := range b.hosts {
		all = append(all, host)
	}
	return all
}
