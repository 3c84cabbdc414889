package quarantine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// Stats counts messages in quarantine.
type Stats struct {
	Messages int       `json:"messages"`
	Oldest   time.Time `json:"oldest,omitzero"` // when the oldest message was quarantined
	Newest   time.Time `json:"newest,omitzero"`
	// Reasons and Devices are sorted by count, the highest first.
	Reasons []ReasonCount `json:"reasons"`
	Devices []DeviceCount `json:"devices"`
	// OtherDevices is the number of devices that are not in Devices.
	OtherDevices int `json:"other_devices"`
}

// ReasonCount counts the messages of one reason.
type ReasonCount struct {
	Reason   string    `json:"reason"`
	Messages int       `json:"messages"`
	Devices  int       `json:"devices"`
	Newest   time.Time `json:"newest"`
	// Detail is the detail of the newest message.
	Detail string `json:"detail,omitempty"`
	seen   map[deviceName]struct{}
}

// DeviceCount counts the messages of one device. Tenant and Device are empty for topics that match no
// pattern.
type DeviceCount struct {
	Tenant   string         `json:"tenant"`
	Device   string         `json:"device"`
	Messages int            `json:"messages"`
	Reasons  map[string]int `json:"reasons"`
	Newest   time.Time      `json:"newest"`
}

type deviceName struct{ tenant, device string }

// Stats counts the selected messages and lists the top devices with the most messages. It reads the
// headers of all messages.
func (r *Reader) Stats(ctx context.Context, f Filter, top int) (*Stats, error) {
	s := &Stats{}
	reasons, devices := map[string]*ReasonCount{}, map[deviceName]*DeviceCount{}
	err := r.Each(ctx, f, func(m Message) {
		s.Messages++
		if s.Oldest.IsZero() {
			s.Oldest = m.Stored
		}
		s.Newest = m.Stored
		name := deviceName{m.Tenant, m.Device}
		reason := reasons[m.Reason]
		if reason == nil {
			reason = &ReasonCount{Reason: m.Reason, seen: map[deviceName]struct{}{}}
			reasons[m.Reason] = reason
		}
		reason.Messages++
		reason.Newest, reason.Detail, reason.seen[name] = m.Stored, m.Detail, struct{}{}
		device := devices[name]
		if device == nil {
			device = &DeviceCount{Tenant: m.Tenant, Device: m.Device, Reasons: map[string]int{}}
			devices[name] = device
		}
		device.Messages++
		device.Reasons[m.Reason]++
		device.Newest = m.Stored
	})
	if err != nil {
		return nil, err
	}
	s.Reasons = make([]ReasonCount, 0, len(reasons))
	for _, reason := range reasons {
		reason.Devices = len(reason.seen)
		s.Reasons = append(s.Reasons, *reason)
	}
	slices.SortFunc(s.Reasons, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Reason, b.Reason))
	})
	all := slices.SortedFunc(maps.Values(devices), func(a, b *DeviceCount) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Device, b.Device))
	})
	s.Devices = []DeviceCount{}
	for _, d := range all[:min(top, len(all))] {
		s.Devices = append(s.Devices, *d)
	}
	s.OtherDevices = len(all) - len(s.Devices)
	return s, nil
}
