package proof

import (
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
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, "size=2m"); err != nil {
		if os.Getenv("BRIDGE_REQUIRE_PEERS") == "1" {
			t.Fatalf("mount a small disk: %v, and BRIDGE_REQUIRE_PEERS=1 demands it", err)
		}
		t.Skipf("mount a small disk: %v; run as root, or set BRIDGE_REQUIRE_PEERS=1 to make this a failure", err)
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

// takesNothing starts the bridge and waits until it says that its lane takes no
// messages, and why.
func (r *plainRig) takesNothing(why string) {
	r.t.Helper()
	r.startBridge()
	log := r.bridge.Log()
	said := log.Await(r.t, r.said, "the lane takes no messages without its journal")
	line := log.String()[r.said:said]
	require.Contains(r.t, line, r.journal())
	require.Contains(r.t, line, why)
	require.NotContains(r.t, line, "mqtt connected")
	r.said = said
}

func TestADiskThatIsFullCostsNothing(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	survive(t, fault{name: "disk of state_dir full", rig: rigOptions{StateDir: d.dir}, times: 2, strike: func(r *plainRig) {
		// Under load, and for a bridge that starts again: the journal has
		// its blocks.
		d.fill()
		r.bridge.Kill9()
		r.startBridge()
		r.awaitSession()
		// One that has no journal yet takes nothing until there is room.
		r.bridge.Kill9()
		aside := r.journal() + ".aside"
		require.NoError(t, os.Rename(r.journal(), aside))
		d.empty()
		d.fill()
		r.takesNothing("no space left on device")
		require.NoError(t, os.Rename(aside, r.journal()))
		d.empty()
		r.awaitSession()
	}}, "2,000 per second", loadOptions{Devices: 200, Rate: 2000, Total: 12_000})
}

func TestADiskThatIsReadOnlyCostsNothing(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	survive(t, fault{name: "disk of state_dir read-only", rig: rigOptions{StateDir: d.dir}, times: 2, strike: func(r *plainRig) {
		r.bridge.Kill9()
		d.readOnly(true)
		r.takesNothing("read-only file system")
		d.readOnly(false)
		r.awaitSession()
	}}, "2,000 per second", loadOptions{Devices: 200, Rate: 2000, Total: 12_000})
}
