package faults

import (
	"crypto/rand"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/proof"
)

// After a crash that loses or corrupts the journal, the bridge cannot know which redelivered
// messages are already stored. At most the messages in flight are stored a second time, and
// none is lost.
func TestCrashWithoutJournal(t *testing.T) {
	t.Parallel()
	const times = 3
	for name, damage := range map[string]func(path string) error{
		"deleted":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 100_000) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"corrupt": func(path string) error {
			noise := make([]byte, 1<<20)
			_, _ = rand.Read(noise) // never fails since Go 1.24
			return os.WriteFile(path, noise, 0o600)
		},
		"corrupt in the middle": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			noise := make([]byte, 64<<10)
			_, _ = rand.Read(noise)
			_, err = f.WriteAt(noise, 4096)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redelivered := 0
			v := proof.Run(t, proof.Fault{Name: "bridge killed, journal " + name, Times: times,
				Rig: proof.RigOptions{Env: []string{"BRIDGE_ADMIN_LISTEN=127.0.0.1:0"}},
				Inject: func(r *proof.Rig) {
					count := func() { redelivered += r.Redelivered() } // all redeliveries since the last fault
					count()
					r.BeforeStop = count
					r.Bridge.Kill9()
					require.NoError(t, damage(r.Journal()))
					r.StartBridge()
					r.AwaitSession()
				}}, "2,000 per second", proof.LoadOptions{Devices: 200, Rate: 2000, Total: 4000 * times})
			require.Zero(t, v.Lost+v.Foreign+v.Inversions, v)
			require.LessOrEqual(t, v.Duplicated, redelivered, v)
			t.Logf("%d messages were in flight", redelivered)
		})
	}
}
