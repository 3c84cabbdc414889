package mqtt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// filterMemory remembers the subscriptions in the broker's session. They outlive the connection and
// the process, and MQTT has no way to ask for them.
//
// The file keeps them for the next process. It is written before SUBSCRIBE, with every filter that
// the broker may have from then on, and again after the broker's answer. So it never misses a
// filter, and it is marked complete only if the broker has exactly these.
type filterMemory struct {
	path     string
	known    []string // the broker may have these
	complete bool     // it has exactly these, granted at QoS 1
	cleaned  bool     // Options.Former has been unsubscribed
}

// filterRecord is the file's content.
type filterRecord struct {
	Filters  []string `json:"filters"`
	Complete bool     `json:"complete"`
}

// load reads the file. If it is missing or unreadable, the memory is empty and the filters are
// subscribed again.
func (m *filterMemory) load(o *Options) {
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

// forget is called for a new session, which has no subscription.
func (m *filterMemory) forget() { m.known, m.complete, m.cleaned = nil, false, true }

// stale returns the filters to unsubscribe.
func (m *filterMemory) stale(o *Options) []string {
	var stale []string
	add := func(f string) {
		if !slices.Contains(o.Filters, f) && !slices.Contains(stale, f) {
			stale = append(stale, f)
		}
	}
	for _, f := range m.known {
		add(f)
	}
	if !m.cleaned {
		for _, f := range o.Former {
			add(f)
		}
	}
	return stale
}

// attempt records that the broker may have the filters from now on.
func (m *filterMemory) attempt(o *Options) error {
	if m.complete && sameFilters(m.known, o.Filters) {
		return nil // nothing new to write down
	}
	for _, f := range o.Filters {
		if !slices.Contains(m.known, f) {
			m.known = append(m.known, f)
		}
	}
	m.complete = false
	return m.save()
}

// settle records that the broker has exactly the filters.
func (m *filterMemory) settle(o *Options) error {
	m.cleaned = true
	if m.complete && sameFilters(m.known, o.Filters) {
		return nil
	}
	m.known, m.complete = slices.Clone(o.Filters), true
	return m.save()
}

// save replaces the file atomically.
func (m *filterMemory) save() error {
	if m.path == "" {
		return nil
	}
	b, err := json.Marshal(filterRecord{Filters: m.known, Complete: m.complete})
	if err != nil {
		return fmt.Errorf("write the filters' file: %w", err)
	}
	next := m.path + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("write the filters' file: %w", err)
	}
	if err := os.Rename(next, m.path); err != nil {
		return fmt.Errorf("write the filters' file: %w", err)
	}
	return nil
}

func sameFilters(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(f string) bool { return !slices.Contains(b, f) })
}
