package subjects_test

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/subjects"
)

func ExampleParsePattern() {
	pattern, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/{rest...}")
	fmt.Println(pattern.Captures())
	fmt.Println("MQTT filter:", pattern.Filter())
	fmt.Println("stream subject:", pattern.StreamSubject())

	_, err := subjects.ParsePattern("tenant/{Tenant}")
	fmt.Println(err)
	// Output:
	// [tenant device rest]
	// MQTT filter: tenant/+/device/+/#
	// stream subject: tenant.*.device.*.>
	// parse topic pattern "tenant/{Tenant}": level 2, column 9: 'T' is not allowed there in a capture's name: write a lower-case letter, then lower-case letters, digits and underscores
}

// If topics do not name the device, the configuration does.
func ExamplePattern_WithDevice() {
	pattern, _ := subjects.ParsePattern("boiler/{sensor}")
	fmt.Println(pattern.RequireDevice())

	pattern, _ = pattern.WithDevice("acme", "boiler-1")
	fmt.Println(pattern.RequireDevice())
	// Output:
	// topic pattern "boiler/{sensor}" does not identify the device: it lacks {tenant} and {device}, as a capture or as a fixed name
	// <nil>
}

// A Match is valid as long as its topic, and can be reused for the next topic.
func ExampleMatch() {
	pattern, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/{type}")
	var m subjects.Match
	for _, topic := range []string{"tenant/acme/device/dev-1/telemetry", "tenant/acme/device//telemetry", "tenant/acme"} {
		if !pattern.Match([]byte(topic), &m) {
			fmt.Println("no match")
			continue
		}
		fmt.Printf("%s %s %s: %v\n", m.Tenant(), m.Device(), m.Get("type"), m.CheckDevice())
	}
	// Output:
	// acme dev-1 telemetry: <nil>
	// acme  telemetry: device is empty
	// no match
}

func ExampleParseTemplate() {
	pattern, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/{type}")
	template, _ := subjects.ParseTemplate("telemetry.{tenant}.{device}", pattern)
	fmt.Println(template.StreamSubject())
	fmt.Println("reversible:", template.Reversible())

	_, err := subjects.ParseTemplate("telemetry.{site}", pattern)
	fmt.Println(err)
	// Output:
	// telemetry.*.*
	// reversible: false
	// parse subject template "telemetry.{site}": token 2, column 11: {site} is not a capture of the topic "tenant/{tenant}/device/{device}/{type}", which has {tenant}, {device}, {type}
}

// Append reuses a buffer; captures are escaped as tokens.
func ExampleTemplate_Append() {
	pattern, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/{type}")
	template, _ := subjects.ParseTemplate("telemetry.{tenant}.{device}", pattern)
	var m subjects.Match
	if pattern.Match([]byte("tenant/acme.eu/device/dev-1/telemetry"), &m) {
		fmt.Printf("%s\n", template.Append(nil, &m))
	}
	// Output: telemetry.acme%2Eeu.dev-1
}

// Two routes that match the same topic are an error, which shows such a topic.
func ExampleNewSet() {
	a, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/telemetry")
	b, _ := subjects.ParsePattern("tenant/acme/device/{device}/{kind}")
	_, err := subjects.NewSet([]subjects.Route{{Pattern: a}, {Pattern: b}})
	fmt.Println(err)
	// Output: compile topic routes: "tenant/{tenant}/device/{device}/telemetry" and "tenant/acme/device/{device}/{kind}" overlap, both match "tenant/acme/device/device1/telemetry"
}

// A filter that another one contains is left out; otherwise the broker would deliver a message
// twice.
func ExampleSet_Filters() {
	all, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/{rest...}")
	site, _ := subjects.ParsePattern("site/{tenant}/{device}")
	set, _ := subjects.NewSet([]subjects.Route{{Pattern: all}, {Pattern: site}})
	fmt.Println(set.Filters())
	// Output: [tenant/+/device/+/# site/+/+]
}

func ExampleParsePrefix() {
	prefix, _ := subjects.ParsePrefix("bridge/v1")
	pattern, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/{type}")
	fmt.Println(prefix.Filter("3", pattern))
	fmt.Println(prefix.Partition("3"))

	_, err := subjects.ParsePrefix("bridge/#")
	fmt.Println(err)
	// Output:
	// bridge/v1/3/+/+/+/tenant/+/device/+/+
	// bridge/v1/3/#
	// parse attested prefix "bridge/#": "+" and "#" are a filter's wildcards, a prefix is literal
}

// The identity that the broker attests is separate from the topic that the device wrote.
func ExamplePrefix_Cut() {
	prefix, _ := subjects.ParsePrefix("bridge/v1")
	a, topic, err := prefix.Cut([]byte("bridge/v1/3/000635F1A2/1764201600000/61636D652F6465762D31/tenant/acme/device/dev-1/telemetry"))
	if err != nil {
		fmt.Println(err)
		return
	}
	cn, _ := subjects.DecodeCN(nil, a.CNHex)
	fmt.Printf("partition %s, id %s, at %d ms, CN %s\n", a.Partition, a.ID, a.Millis, cn)
	fmt.Printf("%s\n", topic)

	_, _, err = prefix.Cut([]byte("tenant/acme/device/dev-1/telemetry"))
	fmt.Println(errors.Is(err, subjects.ErrNotAttested))
	// Output:
	// partition 3, id 000635F1A2, at 1764201600000 ms, CN acme/dev-1
	// tenant/acme/device/dev-1/telemetry
	// true
}

// A custom broker attests a topic as EMQX's rule does.
func ExamplePrefix_Append() {
	prefix, _ := subjects.ParsePrefix("bridge/v1")
	a := subjects.Attestation{
		Partition: []byte("3"), ID: []byte("000635F1A2"), Millis: 1764201600000,
		CNHex: subjects.AppendCN(nil, []byte("acme/dev-1")),
	}
	fmt.Printf("%s\n", prefix.Append(nil, a, []byte("tenant/acme/device/dev-1/telemetry")))
	// Output: bridge/v1/3/000635F1A2/1764201600000/61636D652F6465762D31/tenant/acme/device/dev-1/telemetry
}

func ExampleAppendCN() {
	fmt.Printf("%s\n", subjects.AppendCN(nil, []byte("acme/dev-1")))
	// Output: 61636D652F6465762D31
}

func ExampleDecodeCN() {
	cn, err := subjects.DecodeCN(nil, []byte("61636d652F6465762D31"))
	fmt.Printf("%s %v\n", cn, err)

	_, err = subjects.DecodeCN(nil, []byte("undefined")) // EMQX's placeholder for a missing username
	fmt.Println(errors.Is(err, subjects.ErrNoCN))
	// Output:
	// acme/dev-1 <nil>
	// true
}
