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

// logDedup is the log of all MQTT sessions. If the broker is unreachable every lane
// reports the same problem: the first report is logged as it is, with the number of
// lanes, and the same report of other lanes at debug level while it lasts. The
// problems in /status name the lanes.
type logDedup struct {
	log   zerolog.Logger
	lanes int

	mu   sync.Mutex
	says map[string]string // client id → its problem; none: no problem
}

func newLogDedup(log zerolog.Logger, lanes int) *logDedup {
	return &logDedup{log: log, lanes: lanes, says: map[string]string{}}
}

// sessionLog is the logger of one session.
func (c *logDedup) logger(clientID string) zerolog.Logger {
	return zerolog.New(&sessionLog{c, clientID})
}

// sessionLog parses the lines of one session. There is one per state change, so
// the cost does not matter.
type sessionLog struct {
	dedup    *logDedup
	clientID string
}

// Write implements io.Writer.
func (v *sessionLog) Write(line []byte) (int, error) {
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
	said := v.dedup.note(v.clientID, message, problem)
	if said {
		level = zerolog.DebugLevel
	}
	e := v.dedup.log.WithLevel(level)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		e.RawJSON(name, fields[name])
	}
	if problem != "" && !said && v.dedup.lanes > 1 {
		e.Int("lanes", v.dedup.lanes)
	}
	e.Msg(message)
	return len(line), nil
}

// note records a session's problem and reports whether another session has the same. A
// line without a problem is never a repetition.
func (c *logDedup) note(clientID, message, problem string) (said bool) {
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

// forget drops the problem of a session that was closed.
func (c *logDedup) forget(clientID string) {
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
