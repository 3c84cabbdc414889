package subjects_test

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/subjects"
)

// One buffer serves any number of topics; only CheckSubject says whether the result can be published.
func ExampleAppendSubject() {
	var buffer []byte
	for _, topic := range []string{"tenant/acme/device/dev-1/telemetry", "a//b", "_INBOX/a"} {
		buffer = subjects.AppendSubject(buffer[:0], []byte(topic))
		fmt.Printf("%s %v\n", buffer, subjects.CheckSubject(buffer))
	}
	// Output:
	// tenant.acme.device.dev-1.telemetry <nil>
	// a.%00.b <nil>
	// _INBOX.a subject would begin with _INBOX, which is reserved for replies
}

// A subject filter for one tenant, whatever characters its name contains.
func ExampleAppendToken() {
	filter := append(subjects.AppendToken([]byte("tenant."), []byte("acme.eu *")), ".>"...)
	fmt.Printf("%s\n", filter)
	// Output: tenant.acme%2Eeu%20%2A.>
}

func ExampleCheckTopic() {
	fmt.Println(subjects.CheckTopic([]byte("tenant/acme")))
	fmt.Println(errors.Is(subjects.CheckTopic(nil), subjects.ErrTopicEmpty))
	fmt.Println(errors.Is(subjects.CheckTopic([]byte("a\x00b")), subjects.ErrTopicNUL))
	// Output:
	// <nil>
	// true
	// true
}

func ExampleCheckSubject() {
	fmt.Println(subjects.CheckSubject([]byte("tenant.acme")))
	fmt.Println(errors.Is(subjects.CheckSubject([]byte("_INBOX.x")), subjects.ErrSubjectReserved))
	// Output:
	// <nil>
	// true
}

// If no topic needs an escape, the subject is the topic with dots for slashes.
func ExampleNeedsEscape() {
	fmt.Println(subjects.NeedsEscape([]byte("tenant/acme")))
	fmt.Println(subjects.NeedsEscape([]byte("tenant/acme.eu")))
	// Output:
	// false
	// true
}

// The key of a device in a KV bucket.
func ExampleAppendKey() {
	key := append(subjects.AppendKey(nil, "acme.eu"), '.')
	key = subjects.AppendKey(key, "dev/1")
	fmt.Printf("%s\n", key)
	// Output: acme=2Eeu.dev=2F1
}
