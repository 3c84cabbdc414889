package lanelog

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"mqtt-nats-bridge/internal/neterror"

	"github.com/rs/zerolog"
)

// Sessions is the log of all lanes' MQTT sessions. If the broker is unreachable every lane
// reports the same problem: the first report is logged as it is, with the number of
// lanes, and the same report of other lanes at debug level while it lasts. The
// problems in /status name the lanes.
type Sessions struct {
	log   zerolog.Logger
	lanes int

	mu   sync.Mutex
	says map[string]string // client id → its problem; none: no problem
}

// NewSessions returns the log of that many lanes.
func NewSessions(log zerolog.Logger, lanes int) *Sessions {
	return &Sessions{log: log, lanes: lanes, says: map[string]string{}}
}

// Logger returns the logger of one session.
func (s *Sessions) Logger(clientID string) zerolog.Logger {
	return zerolog.New(&sessionLog{s, clientID})
}

// sessionLog parses the lines of one session. There is one per state change, so
// the cost does not matter.
type sessionLog struct {
	sessions *Sessions
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
	said := v.sessions.note(v.clientID, message, problem)
	if said {
		level = zerolog.DebugLevel
	}
	e := v.sessions.log.WithLevel(level)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		e.RawJSON(name, fields[name])
	}
	if problem != "" && !said && v.sessions.lanes > 1 {
		e.Int("lanes", v.sessions.lanes)
	}
	e.Msg(message)
	return len(line), nil
}

// note records a session's problem and reports whether another session has the same. A
// line without a problem is never a repetition.
func (s *Sessions) note(clientID, message, problem string) (said bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.says, clientID)
	if problem == "" {
		return false
	}
	key := message + ": " + neterror.WithoutLocalAddress(strings.ReplaceAll(problem, clientID, ""))
	for _, other := range s.says {
		said = said || other == key
	}
	s.says[clientID] = key
	return said
}

// Forget drops the problem of a session that was closed.
func (s *Sessions) Forget(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.says, clientID)
}

// text is a JSON string's, empty where it is none.
func text(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s)
	return s
}
