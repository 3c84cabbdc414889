package child

import (
	"strings"
	"sync"
)

// Log collects output, of a process or of a logger. It is safe for concurrent use, and the zero value is empty.
type Log struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed at the next write; nil: no caller of Find waits
}

// Write implements [io.Writer].
func (l *Log) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(data)
}

// String returns the whole output so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tail returns at most the last n bytes of the output.
func (l *Log) Tail(n int) string {
	s := l.String()
	return s[max(0, len(s)-n):]
}

// Find returns the byte offset after the first text at or after the offset from. If there is none yet, changed
// is not nil and is closed at the next write.
func (l *Log) Find(from int, text string) (end int, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.text.String()
	if at := strings.Index(s[min(from, len(s)):], text); at >= 0 {
		return from + at + len(text), nil
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return 0, l.changed
}
