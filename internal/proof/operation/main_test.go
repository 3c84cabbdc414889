package operation

import (
	"os"
	"strings"
	"testing"

	"mqtt-nats-bridge/internal/proof"
)

// passwords of the users of nats.conf, which reads them from the environment.
var passwords = map[string]string{"bridge": "pb-7f2", "ingest": "pi-7f2", "operator": "po-7f2"}

func TestMain(m *testing.M) {
	for user, password := range passwords {
		if err := os.Setenv("NATS_"+strings.ToUpper(user)+"_PASSWORD", password); err != nil {
			panic(err)
		}
	}
	proof.Main(m)
}
