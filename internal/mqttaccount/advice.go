package mqttaccount

import (
	"cmp"
	"errors"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/mqtt"
	"mqtt-nats-bridge/mqtt/dial"
)

// Advice is [advice.For] including advice about the MQTT broker. It is a separate package because
// ingest does not link an MQTT client.
func Advice(err error) string {
	var problem *dial.Problem
	var refused *mqtt.SubscriptionError
	switch {
	case errors.As(err, &problem) && problem.Cause == dial.CauseLocalFile:
		return advice.File(err, "mqtt")
	case errors.As(err, &problem):
		return cmp.Or(causes[problem.Cause], advice.TLS(tlsfile.Cause(problem.Cause), "mqtt"))
	case errors.Is(err, mqtt.ErrTakeover):
		return "stop the other bridge, or give this one a different mqtt.client_id"
	case errors.As(err, &refused) && refused.Code == 0:
		return "allow QoS 1 on the broker (EMQX: mqtt.max_qos_allowed, mosquitto: max_qos)"
	case errors.As(err, &refused):
		return "allow mqtt.username to subscribe to it in the broker's ACL"
	case errors.Is(err, mqtt.ErrSubscriptionRefused):
		return "allow the bridge's user to subscribe to it in the broker's ACL; while a broker starts, this is temporary"
	case errors.Is(err, mqtt.ErrClosedByBroker):
		return "read the broker's log for the reason; the bridge reconnects"
	case errors.Is(err, mqtt.ErrSessionLost):
		return "find the cause: a client kicked manually, a restart of a broker that does not keep sessions, the broker's session expiry, queue or memory limits, or another client that connected with this client id and a clean session (docs/security.md)"
	}
	return advice.For(err)
}

var causes = map[dial.Cause]string{
	dial.CauseHost:     "correct the host in mqtt.url, or fix name resolution",
	dial.CauseRefused:  "nothing listens there: start the broker, or correct the port in mqtt.url",
	dial.CauseNoAnswer: "correct the address in mqtt.url, or allow the connection in the firewalls on the path",
	dial.CauseNetwork:  "check mqtt.url and the network",
	dial.CauseSilent:   "if another program listens there, correct the port in mqtt.url; otherwise read the broker's log",
	dial.CauseHungUp:   "read the broker's log for the reason: a limit, a rule of its ACL, or its start",

	dial.CauseNotMQTT:      "correct the port in mqtt.url: another program listens there",
	dial.CausePlain:        "use the port of the broker's TLS listener in mqtt.url, or write mqtt:// (ws://) for plain text",
	dial.CauseTLSPort:      "write mqtts:// (wss://) in mqtt.url, or use the port of the broker's plain listener",
	dial.CauseNotTLS:       "correct the port in mqtt.url: this one does not speak TLS",
	dial.CauseNotWebSocket: "correct the port and path in mqtt.url (EMQX: ws://host:8083/mqtt), or mqtt.headers",

	dial.CauseVersion:       "enable MQTT 3.1.1 on the broker",
	dial.CauseClientID:      "correct mqtt.client_id, or allow it on the broker",
	dial.CauseUnavailable:   "read the broker's log; while the broker starts, this is temporary",
	dial.CauseCredentials:   "compare mqtt.username and its password, or the certificate in mqtt.tls.cert, with the broker's users, and allow this client id; mqtt.password_file is read again at each connect",
	dial.CauseNoCredentials: "give mqtt.username and mqtt.password_file, or a client certificate in mqtt.tls",
}
