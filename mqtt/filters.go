package mqtt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// filterStore records the subscriptions in the broker's session. They outlive the connection and
// the process, and MQTT has no way to query them.
//
// The file keeps them for the next process. It is written before SUBSCRIBE, with every filter that
// the broker may have from then on, and again after the broker's answer. So it never misses a
// filter, and it is marked complete only if it lists exactly the broker's filters.
type filterStore struct {
	path          string
	known         []string // filters that the broker may have
	complete      bool     // the broker has exactly these, granted at QoS 1
	formerRemoved bool     // Options.Former were unsubscribed
}

// filterRecord is the content of the file.
type filterRecord struct {
	Filters  []string `json:"filters"`
	Complete bool     `json:"complete"`
}

// load reads the file. If it is missing or unreadable, the store is empty and the filters are
// subscribed again.
func (m *filterStore) load(o *Options) {
	m.path = o.FilterFile
	if m.path == "" {
		return
	}
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var r filterRecord
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		o.Log.Warn().Str("component", "mqtt").Err(err).Str("client_id", o.ClientID).Msg("mqtt filters of the previous run cannot be read")
		return
	}
	m.known = slices.DeleteFunc(r.Filters, func(f string) bool { return !validFilter(f) })
	m.complete = r.Complete && sameFilters(m.known, o.Filters)
}

// reset clears the store for a new session, which has no subscriptions.
func (m *filterStore) reset() { m.known, m.complete, m.formerRemoved = nil, false, true }

// stale returns the filters to unsubscribe.
func (m *filterStore) stale(o *Options) []string {
	left := m.known
	if !m.formerRemoved {
		left = slices.Concat(m.known, o.Former)
	}
	var stale []string
	for _, f := range left {
		if !slices.Contains(o.Filters, f) && !slices.Contains(stale, f) {
			stale = append(stale, f)
		}
	}
	return stale
}

// beforeSubscribe records that the broker may have the filters from now on.
func (m *filterStore) beforeSubscribe(o *Options) error {
	if m.complete && sameFilters(m.known, o.Filters) {
		return nil // already recorded
	}
	for _, f := range o.Filters {
		if !slices.Contains(m.known, f) {
			m.known = append(m.known, f)
		}
	}
	m.complete = false
	return m.save()
}

// afterSubscribe records that the broker has exactly the filters.
func (m *filterStore) afterSubscribe(o *Options) error {
	m.formerRemoved = true
	if m.complete && sameFilters(m.known, o.Filters) {
		return nil
	}
	m.known, m.complete = slices.Clone(o.Filters), true
	return m.save()
}

// save replaces the file atomically.
func (m *filterStore) save() error {
	if m.path == "" {
		return nil
	}
	b, err := json.Marshal(filterRecord{Filters: m.known, Complete: m.complete})
	next := m.path + ".new"
	if err == nil {
		err = os.WriteFile(next, b, 0o600)
	}
	if err == nil {
		err = os.Rename(next, m.path)
	}
	if err != nil {
		return fmt.Errorf("write the filters' file: %w", err)
	}
	return nil
}

func sameFilters(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(f string) bool { return !slices.Contains(b, f) })
}
