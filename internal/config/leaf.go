package config

import (
	"fmt"
	"slices"
	"strings"
)

// LeafServers are the hub's listeners for leaf nodes, without credentials.
type LeafServers struct{ urlList }

// leafPort is nats-server's default for leaf nodes.
const leafPort = "7422"

var leafURLRules = urlRules{
	example: "write it like nats-leaf://hub:7422, or tls://hub:7422 for TLS, several separated by commas",
	schemes: []string{"nats-leaf", "nats", "tls", "ws", "wss"}, paths: []string{"ws", "wss"},
}

// Kind returns the name of the type in the reference.
func (s *LeafServers) Kind() string { return "URLs" }

// Parse reads the value of a key.
func (s *LeafServers) Parse(text string) error {
	var parsed LeafServers
	if err := parsed.parseList(text, &leafURLRules); err != nil {
		return err
	}
	if parsed.hasUser() {
		return fmt.Errorf("%s; remove the credentials: the link uses those of nats.user, nats.creds and so on", quoteURL(text))
	}
	for _, u := range parsed.urls {
		if !strings.HasPrefix(u.Scheme, "ws") {
			withPort(u, leafPort)
		}
	}
	*s = parsed
	return nil
}

// leafRules validate the keys of nats.mode leaf. They refuse these keys in the other mode, because a
// user who sets them expects messages to be stored locally.
func (l *rules) leafRules() {
	leaf := l.c.NATS.Leaf
	if !l.Valid("nats.mode") {
		return
	}
	if l.c.NATS.Mode != LeafMode {
		if l.Given("nats.leaf") {
			keys := slices.DeleteFunc(l.Paths(), func(p string) bool { return !strings.HasPrefix(p, "nats.leaf.") })
			l.Conflict("applies only with nats.mode: leaf; write nats.mode: leaf, or remove this key", keys...)
		}
		return
	}
	require := func(given bool, path, advice string) {
		if !given && l.Valid(path) {
			l.ErrorAt("nats.mode", path, "is required with nats.mode: leaf; "+advice)
		}
	}
	require(!leaf.URL.IsZero(), "nats.leaf.url", "write the hub's listener for leaf nodes, like nats-leaf://hub:7422")
	require(leaf.Domain != "", "nats.leaf.domain", "write a name for this site, like site-a, that no other bridge uses")
	require(leaf.StoreDir != "", "nats.leaf.store_dir", "name a directory for the local store")
	l.syntax("nats.leaf.domain", leaf.Domain, leaf.Domain == "" || validDomain(leaf.Domain), "is not a valid JetStream domain; write 1 to 64 letters, digits, - or _, like site-a")
	l.directory("nats.leaf.store_dir", leaf.StoreDir)
	if l.Valid("nats.leaf.store_dir", "state_dir") && leaf.StoreDir != "" && leaf.StoreDir == l.c.StateDir {
		l.Conflict("is the same directory as state_dir; give the store its own directory", "nats.leaf.store_dir")
	}
	if l.Valid("limits.payload", "nats.leaf.max_payload") && l.c.Limits.Payload > leaf.MaxPayload {
		l.Conflict(fmt.Sprintf("%s is below limits.payload (%s), so no message of that size can be stored; raise it together with the hub's max_payload, or lower limits.payload", leaf.MaxPayload, l.c.Limits.Payload), "nats.leaf.max_payload", "limits.payload")
	}
	for i, t := range l.c.Topics {
		if path := fmt.Sprintf("topics[%d].stream", i); t.Stream == NoStream && l.Valid(path) {
			l.Conflict("is none, and with nats.mode: leaf no local stream would store the messages; write telemetry, shadow or commands", path)
		}
	}
}

// validDomain reports whether d is a valid domain. A domain is a token of subjects and part of a
// server's name.
func validDomain(d string) bool { return len(d) <= 64 && validName(d) }
