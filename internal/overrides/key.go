package overrides

import (
	"errors"
	"strings"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/subjects"
)

// parseKey parses the key of a limit. It does not set the Rate.
//
//	tenant.<tenant>                    the tenant as a whole
//	tenant.<tenant>.devices            each of its devices
//	tenant.<tenant>.device.<device>    one of them
//
// Tenant and device are encoded by subjects.AppendKey.
func parseKey(key string) (limit.Override, error) {
	var o limit.Override
	tokens := strings.Split(key, ".")
	names := []*string{&o.Tenant}
	switch {
	case len(tokens) == 2 && tokens[0] == "tenant":
	case len(tokens) == 3 && tokens[0] == "tenant" && tokens[2] == "devices":
		o.Devices = true
	case len(tokens) == 4 && tokens[0] == "tenant" && tokens[2] == "device":
		names = append(names, &o.Device)
	default:
		return o, errors.New("the key is not one of tenant.<tenant>, tenant.<tenant>.devices, tenant.<tenant>.device.<device>")
	}
	for i, name := range names {
		text, err := subjects.ParseKey(tokens[2*i+1])
		if err != nil {
			return o, err
		}
		if text == "" {
			return o, errors.New("the tenant or the device is empty")
		}
		*name = text
	}
	return o, nil
}

// Key returns the key of a limit; the inverse of parseKey.
func Key(o limit.Override) string {
	key := subjects.AppendKey([]byte("tenant."), o.Tenant)
	switch {
	case o.Device != "":
		key = subjects.AppendKey(append(key, ".device."...), o.Device)
	case o.Devices:
		key = append(key, ".devices"...)
	}
	return string(key)
}
