package daemon

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"mqtt-nats-bridge/internal/neterror"

	"github.com/rs/zerolog"
)

// chorus is the log of all MQTT sessions. With the broker away every lane would
// say the same: what the first one says is logged as it is, with the number of
// lanes, and the same from others while it lasts at debug. Which lanes are
// concerned is in the problems.
type chorus struct {
	log   zerolog.Logger
	lanes int

	mu   sync.Mutex
	says map[string]string // client id → what is wrong there; none: nothing
}

func newChorus(log zerolog.Logger, lanes int) *chorus {
	return &chorus{log: log, lanes: lanes, says: map[string]string{}}
}

// voice is the logger of one session.
func (c *chorus) voice(clientID string) zerolog.Logger {
	return zerolog.New(&voice{c, clientID})
}

// voice takes the lines of one session apart. They are one a state change, so
// that costs nothing.
type voice struct {
	chorus   *chorus
	clientID string
}

// Write implements io.Writer.
func (v *voice) Write(line []byte) (int, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(line, &fields); err != nil {
		return 0, err
	}
	level, err := zerolog.ParseLevel(text(fields[zerolog.LevelFieldName]))
	if err != nil {
		return 0, err
	}
	message, problem := text(fields[zerolog.MessageFieldName]), text(fields["problem"])
	delete(fields, zerolog.LevelFieldName)
	delete(fields, zerolog.MessageFieldName)
	said := v.chorus.note(v.clientID, message, problem)
	if said {
		level = zerolog.DebugLevel
	}
	e := v.chorus.log.WithLevel(level)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		e.RawJSON(name, fields[name])
	}
	if problem != "" && !said && v.chorus.lanes > 1 {
		e.Int("lanes", v.chorus.lanes)
	}
	e.Msg(message)
	return len(line), nil
}

// note remembers what a session says and tells whether another is saying it. A
// line without a problem is always news.
func (c *chorus) note(clientID, message, problem string) (said bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.says, clientID)
	if problem == "" {
		return false
	}
	key := message + ": " + neterror.WithoutLocalAddress(strings.ReplaceAll(problem, clientID, ""))
	for _, other := range c.says {
		said = said || other == key
	}
	c.says[clientID] = key
	return said
}

// silent: the session is closed, whatever it said last.
func (c *chorus) silent(clientID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.says, clientID)
}

// text is a JSON string's, empty where it is none.
func text(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s)
	return s
}
