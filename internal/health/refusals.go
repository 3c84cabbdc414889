package health

import (
	"maps"
	"slices"
	"sync"

	"github.com/rs/zerolog"
)

// Refusals contains the entries that could not be read, by key. Each is logged once, and again when
// its reason changes. While there are more than maxLogged, further ones are only counted. It is safe
// for concurrent use.
type Refusals struct {
	log             zerolog.Logger
	component, what string

	mu   sync.Mutex
	all  map[string]string // reason by key
	next map[string]string // refusals of the reading in progress; nil: no reading
}

// maxLogged bounds the log lines about refused entries, so that a bucket full of foreign keys does not
// fill the log.
const maxLogged = 100

// maxListed bounds the number of entries that List returns.
const maxListed = 20

// Refusal is an entry that cannot be read.
type Refusal struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// NewRefusals returns an empty Refusals. component and the kind of entry, such as "limit", appear in
// log lines.
func NewRefusals(component, what string, log zerolog.Logger) *Refusals {
	return &Refusals{log: log, component: component, what: what, all: map[string]string{}}
}

// Begin starts a reading of all entries.
func (r *Refusals) Begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = map[string]string{}
}

// Done ends the reading. Refusals that did not occur in it are removed.
func (r *Refusals) Done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != nil {
		r.all, r.next = r.next, nil
	}
}

// Refuse records an entry that cannot be read.
func (r *Refusals) Refuse(key string, err error) {
	r.mu.Lock()
	reason := err.Error()
	isNew := r.all[key] != reason && len(r.all) < maxLogged
	if r.next != nil {
		r.next[key] = reason
		isNew = isNew && len(r.next) < maxLogged
	} else {
		r.all[key] = reason
	}
	r.mu.Unlock() // a slow log must not block /readyz
	if isNew {
		r.log.Error().Str("component", r.component).Str("key", key).Str("problem", reason).Msg(r.what + " refused, keeping the previous value")
	}
}

// Accept records that the entry can be read or no longer exists.
func (r *Refusals) Accept(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != nil {
		delete(r.next, key)
		return
	}
	delete(r.all, key)
}

// List returns the number of refused entries, and the first of them by key.
func (r *Refusals) List() (n int, some []Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := slices.Sorted(maps.Keys(r.all))
	for _, key := range keys[:min(len(keys), maxListed)] {
		some = append(some, Refusal{key, r.all[key]})
	}
	return len(keys), some
}
