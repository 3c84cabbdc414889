package config

import (
	"fmt"
	"os"
	"strings"

	"mqtt-nats-bridge/internal/schema"
)

// LeafServers are listeners for leaf nodes, without credentials.
type LeafServers struct{ urlList }

// leafPort is nats-server's default for leaf nodes.
const leafPort = "7422"

var leafURLRules = urlRules{
	example: "write it like nats-leaf://hub:7422, or tls://hub:7422 for TLS, several separated by commas",
	schemes: []string{"nats-leaf", "nats", "tls", "ws", "wss"}, paths: []string{"ws", "wss"},
}

// Kind implements the kind of a key.
func (s *LeafServers) Kind() string { return "URLs" }

// Parse implements the reading of a key.
func (s *LeafServers) Parse(text string) error {
	var parsed LeafServers
	if err := parsed.parseList(text, &leafURLRules); err != nil {
		return err
	}
	if parsed.hasUser() {
		return fmt.Errorf("%s: the link takes its credentials from nats.user, nats.creds and so on; leave them out here", quoteURL(text))
	}
	for _, u := range parsed.urls {
		if !strings.HasPrefix(u.Scheme, "ws") {
			withPort(u, leafPort)
		}
	}
	*s = parsed
	return nil
}

// leafRules apply in nats.mode leaf, and keep its keys out of the other mode:
// a user who writes them believes that something is stored here.
func (l *rules) leafRules() {
	leaf := l.c.NATS.Leaf
	if !l.Valid("nats.mode") {
		return
	}
	if l.c.NATS.Mode != LeafMode {
		if l.Given("nats.leaf") {
			l.Conflict("is for nats.mode: leaf, and the mode is client; write nats.mode: leaf, or drop this", l.leafPaths()...)
		}
		return
	}
	needs := func(given bool, path, what string) {
		if !given && l.Valid(path) {
			l.ErrorAt("nats.mode", path, "is missing, and nats.mode is leaf; "+what)
		}
	}
	needs(!leaf.URL.IsZero(), "nats.leaf.url", "write the hub's listener for leaf nodes, like nats-leaf://hub:7422")
	needs(leaf.Domain != "", "nats.leaf.domain", "write a name for this site, like site-a, that no other bridge has")
	needs(leaf.StoreDir != "", "nats.leaf.store_dir", "name a directory for what the hub has not stored yet")
	if l.Valid("nats.leaf.domain") && leaf.Domain != "" && !validDomain(leaf.Domain) {
		l.Conflict(schema.Quote(leaf.Domain)+" is not a valid JetStream domain; write 1 to 64 letters, digits, - or _, like site-a", "nats.leaf.domain")
	}
	if info, err := os.Stat(leaf.StoreDir); leaf.StoreDir != "" && l.Valid("nats.leaf.store_dir") && err == nil && !info.IsDir() {
		l.Conflict(schema.Quote(leaf.StoreDir)+" is not a directory; name one, it is created if missing", "nats.leaf.store_dir")
	}
	if l.Valid("nats.leaf.store_dir", "state_dir") && leaf.StoreDir != "" && leaf.StoreDir == l.c.StateDir {
		l.Conflict("is state_dir too; give the store a directory of its own", "nats.leaf.store_dir")
	}
	if l.Valid("limits.payload", "nats.leaf.max_payload") && l.c.Limits.Payload > leaf.MaxPayload {
		l.Conflict(fmt.Sprintf("%s is below limits.payload (%s), and no such message could be stored; raise it, with the hub's max_payload, or lower the payload", leaf.MaxPayload, l.c.Limits.Payload), "nats.leaf.max_payload", "limits.payload")
	}
	for i, t := range l.c.Topics {
		if path := fmt.Sprintf("topics[%d].stream", i); t.Stream == NoStream && l.Valid(path) {
			l.Conflict("is none, and with nats.mode: leaf nothing here would store it; write telemetry, shadow or commands", path)
		}
	}
}

func (l *rules) leafPaths() []string {
	var paths []string
	for _, p := range l.Paths() {
		if strings.HasPrefix(p, "nats.leaf.") {
			paths = append(paths, p)
		}
	}
	return paths
}

// validDomain reports whether a domain can be used: it is a token of subjects and of a server's name.
func validDomain(d string) bool { return len(d) <= 64 && validName(d) }
