package proof

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// disk is a small file system of the test's own.
type disk struct {
	t   testing.TB
	dir string
}

func mountDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{t: t, dir: t.TempDir()}
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, "size=4m"); err != nil {
		if os.Getenv("BRIDGE_REQUIRE_PEERS") == "1" && os.Geteuid() == 0 && !errors.Is(err, unix.EPERM) {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(d.dir, unix.MNT_DETACH)) })
	return d
}

func (d *disk) fill() {
	d.t.Helper()
	require.ErrorIs(d.t, os.WriteFile(filepath.Join(d.dir, "filler"), make([]byte, 8<<20), 0o600), unix.ENOSPC)
}

func (d *disk) empty() {
	d.t.Helper()
	require.NoError(d.t, os.Remove(filepath.Join(d.dir, "filler")))
}

func (d *disk) readOnly(on bool) {
	d.t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if on {
		flags |= unix.MS_RDONLY
	}
	require.NoError(d.t, unix.Mount("tmpfs", d.dir, "tmpfs", flags, ""))
}

// refusesToStart starts the bridge, which is to end with an error that says all
// of words.
func (r *plainRig) refusesToStart(words ...string) {
	r.t.Helper()
	r.startBridge()
	require.Equal(r.t, 1, r.bridge.Wait(), "exit code")
	said := r.bridge.Log().String()[r.said:]
	for _, w := range words {
		require.Contains(r.t, said, w)
	}
}

func TestADiskThatIsFullCostsNothing(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	survive(t, fault{name: "disk of state_dir full", rig: rigOptions{StateDir: d.dir}, redelivers: true, times: 2, strike: func(r *plainRig) {
		// Under load, and for a bridge that starts again: the journal has
		// its blocks.
		d.fill()
		r.bridge.Kill9()
		r.startBridge()
		r.awaitSession()
		// For one that has none yet.
		r.bridge.Kill9()
		d.empty()
		kept, err := os.ReadFile(r.journal())
		require.NoError(t, err)
		require.NoError(t, os.Remove(r.journal()))
		d.fill()
		r.refusesToStart(r.journal(), "no space left on device")
		d.empty()
		require.NoError(t, os.WriteFile(r.journal(), kept, 0o600))
		r.startBridge()
		r.awaitSession()
	}}, "2,000 a second", loadOptions{Devices: 200, Rate: 2000, Total: 12_000})
}

func TestADiskThatIsReadOnlyCostsNothing(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	survive(t, fault{name: "disk of state_dir read-only", rig: rigOptions{StateDir: d.dir}, redelivers: true, times: 2, strike: func(r *plainRig) {
		r.bridge.Kill9()
		d.readOnly(true)
		r.refusesToStart(r.journal(), "read-only file system")
		d.readOnly(false)
		r.startBridge()
		r.awaitSession()
	}}, "2,000 a second", loadOptions{Devices: 200, Rate: 2000, Total: 12_000})
}
