package mqttaccount

import (
	"cmp"
	"errors"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/mqtt"
	"mqtt-nats-bridge/mqtt/dial"
)

// Advice is [advice.For] with what an operator can do about the broker, which is here:
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
		return "stop the other bridge, or give this one another mqtt.client_id"
	case errors.As(err, &refused) && refused.Code == 0:
		return "allow QoS 1 at the broker (EMQX: mqtt.max_qos_allowed, mosquitto: max_qos)"
	case errors.As(err, &refused):
		return "let mqtt.username subscribe to it in the broker's ACL"
	case errors.Is(err, mqtt.ErrSubscriptionRefused):
		return "allow the bridge's user to subscribe to it in the broker's ACL; while a broker starts this passes by itself"
	case errors.Is(err, mqtt.ErrClosedByBroker):
		return "see the broker's log for the reason; the bridge connects again"
	case errors.Is(err, mqtt.ErrSessionLost):
		return "find out what ended it: a client kicked by hand, a restart of a broker that does not keep sessions, its session expiry, queue or memory limits, or another client that connected with this client id and a clean session (docs/security.md)"
	}
	return advice.For(err)
}

var causes = map[dial.Cause]string{
	dial.CauseHost:     "correct the host in mqtt.url, or its name service",
	dial.CauseRefused:  "nothing listens there: start the broker, or correct the port in mqtt.url",
	dial.CauseNoAnswer: "correct the address in mqtt.url, or open the firewall on the way",
	dial.CauseNetwork:  "check mqtt.url and the network",
	dial.CauseSilent:   "correct the port in mqtt.url, if something else listens there; else see the broker's log",
	dial.CauseHungUp:   "the broker's log says why it closed the connection: a limit, a rule of its ACL, or its start",

	dial.CauseNotMQTT:      "correct the port in mqtt.url: another program listens there",
	dial.CausePlain:        "write the port of the broker's TLS listener in mqtt.url, or mqtt:// (ws://) for plain text",
	dial.CauseTLSPort:      "write mqtts:// (wss://) in mqtt.url, or the port of the broker's plain listener",
	dial.CauseNotTLS:       "correct the port in mqtt.url: this one does not speak TLS",
	dial.CauseNotWebSocket: "correct port and path in mqtt.url (EMQX: ws://host:8083/mqtt), or mqtt.headers",

	dial.CauseVersion:       "enable MQTT 3.1.1 at the broker",
	dial.CauseClientID:      "correct mqtt.client_id, or let the broker accept it",
	dial.CauseUnavailable:   "see the broker's log; while it starts this passes by itself",
	dial.CauseCredentials:   "the broker must know mqtt.username with this password, or the certificate in mqtt.tls.cert, and let it connect under this client id; mqtt.password_file is read again at each connect",
	dial.CauseNoCredentials: "give mqtt.username and mqtt.password_file, or a client certificate in mqtt.tls",
}
