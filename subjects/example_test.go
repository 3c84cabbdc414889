package subjects_test

import (
	"fmt"

	"mqtt-nats-bridge/subjects"
)

func ExampleFromTopic() {
	subject, _ := subjects.FromTopic("tenant/acme.eu/device/dev 1/telemetry")
	topic, _ := subjects.ToTopic(subject)
	fmt.Println(subject)
	fmt.Println(topic)
	// Output:
	// tenant.acme%2Eeu.device.dev%201.telemetry
	// tenant/acme.eu/device/dev 1/telemetry
}

func ExampleSet() {
	pattern, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/{type}")
	template, _ := subjects.ParseTemplate("telemetry.{tenant}.{device}", pattern)
	set, _ := subjects.NewSet([]subjects.Route{{Pattern: pattern, Template: template}})

	var m subjects.Match
	if route, ok := set.Match([]byte("tenant/acme/device/dev-1/telemetry"), &m); ok {
		fmt.Printf("%s %s %s\n", m.Tenant(), m.Device(), m.Get("type"))
		fmt.Printf("%s\n", set.Route(route).Template.Append(nil, &m))
	}
	// Output:
	// acme dev-1 telemetry
	// telemetry.acme.dev-1
}

func ExampleToTopic() {
	topic, err := subjects.ToTopic("tenant.acme.device.dev%2E1.telemetry")
	fmt.Println(topic, err)
	// Output: tenant/acme/device/dev.1/telemetry <nil>
}

func ExampleOverlap() {
	a, _ := subjects.ParsePattern("tenant/{tenant}/device/{device}/telemetry")
	b, _ := subjects.ParsePattern("tenant/acme/device/{device}/{kind}")
	_, overlap := subjects.Overlap(a, b)
	fmt.Println(overlap)
	// Output: true
}

func ExampleParseKey() {
	key := subjects.AppendKey(nil, "acme/dev 1")
	name, err := subjects.ParseKey(string(key))
	fmt.Println(name, err)
	// Output: acme/dev 1 <nil>
}
