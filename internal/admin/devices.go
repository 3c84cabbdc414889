package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/endpoint"
)

const (
	defaultTop = 20
	// maxTop bounds a response to about 250 KB.
	maxTop = 1000
)

// topDevices is the body of /devices.
type topDevices struct {
	By      limit.TopBy    `json:"by"`
	Devices []limit.Device `json:"devices"`
}

func (r *routes) top(w http.ResponseWriter, req *http.Request) {
	n, by, err := parseTop(req.URL.RawQuery)
	if err != nil {
		endpoint.WriteJSON(w, http.StatusBadRequest, errorBody{err.Error()})
		return
	}
	devices := r.TopDevices(n, by)
	if devices == nil {
		devices = []limit.Device{}
	}
	endpoint.WriteJSON(w, http.StatusOK, topDevices{By: by, Devices: devices})
}

// parseTop reads the parameters of /devices. The error contains the valid values.
func parseTop(query string) (n int, by limit.TopBy, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, "", fmt.Errorf("read parameters: %w", err)
	}
	n, by = defaultTop, limit.ByReceived
	for name, given := range values {
		value := given[len(given)-1]
		switch name {
		case "top":
			n, err = strconv.Atoi(value)
			if err != nil || n < 1 || n > maxTop {
				return 0, "", fmt.Errorf("top=%s: give a number from 1 to %d", value, maxTop)
			}
		case "by":
			by = limit.TopBy(value)
			if !slices.Contains([]limit.TopBy{limit.ByReceived, limit.ByRejected}, by) {
				return 0, "", fmt.Errorf("by=%s: give %s or %s", value, limit.ByReceived, limit.ByRejected)
			}
		default:
			return 0, "", fmt.Errorf("%s: unknown parameter; the parameters are top and by", name)
		}
	}
	return n, by, nil
}

// device serves the counts of one device. Tenant and device are path-escaped in the URL: a slash
// within a name is %2F.
func (r *routes) device(w http.ResponseWriter, req *http.Request) {
	tenant, name := req.PathValue("tenant"), req.PathValue("device")
	device, ok := r.Bridge.Device(tenant, name)
	if !ok || strings.Contains(tenant, "/") {
		endpoint.WriteJSON(w, http.StatusNotFound, errorBody{fmt.Sprintf(
			"no message from %s/%s since the bridge started, or the device was idle and its counts were removed", tenant, name)})
		return
	}
	endpoint.WriteJSON(w, http.StatusOK, device)
}
