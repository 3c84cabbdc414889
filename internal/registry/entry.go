package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/subjects"
)

// maxEntry bounds the value of a key, in bytes.
const maxEntry = 4 << 10

// ParseKey parses the key of a certificate, tenant.device, each encoded by subjects.AppendKey.
func ParseKey(key string) (tenant, device string, err error) {
	t, d, ok := strings.Cut(key, ".")
	if !ok {
		return "", "", errors.New("the key is not of the form tenant.device")
	}
	if tenant, err = subjects.ParseKey(t); err == nil {
		device, err = subjects.ParseKey(d)
	}
	if err == nil && (tenant == "" || device == "") {
		err = errors.New("the tenant or the device is empty")
	}
	return tenant, device, err
}

// Key is the inverse of ParseKey.
func Key(tenant, device string) string {
	return string(subjects.AppendKey(append(subjects.AppendKey(nil, tenant), '.'), device))
}

// Entry is the value of a key.
type Entry struct {
	Status   string
	NotAfter int64 // ms since the epoch; 0: does not expire
}

// ParseEntry parses the value of a certificate, {"status": "ACTIVE", "not_after":
// "2027-01-31T00:00:00Z"}. not_after is optional, and other fields are ignored. If the status is
// valid and not active, it applies despite other errors: the returned entry then has a Status
// although err is not nil.
func ParseEntry(value []byte) (Entry, error) {
	if len(value) > maxEntry {
		return Entry{}, fmt.Errorf("has %d bytes, which is too long; write JSON like {\"status\": \"ACTIVE\"}", len(value))
	}
	var v struct {
		Status   any `json:"status"`
		NotAfter any `json:"not_after"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return Entry{}, fmt.Errorf("is not a JSON object like {\"status\": \"ACTIVE\", \"not_after\": \"2027-01-31T00:00:00Z\"}: %w", err)
	}
	status, ok := v.Status.(string)
	if status = strings.TrimSpace(status); !ok || status == "" {
		return Entry{}, errors.New("has no status; write {\"status\": \"ACTIVE\"} or another word for not active, like REVOKED")
	}
	e := Entry{Status: status}
	switch end := v.NotAfter.(type) {
	case nil:
		return e, nil
	case string:
		at, err := time.Parse(time.RFC3339, end)
		if err == nil && at.UnixMilli() > 0 {
			e.NotAfter = at.UnixMilli()
			return e, nil
		}
	}
	if strings.EqualFold(status, certificates.StatusActive) {
		e = Entry{}
	}
	return e, fmt.Errorf("not_after is %v; write a time like \"2027-01-31T00:00:00Z\", or omit it if the certificate does not expire", v.NotAfter)
}
