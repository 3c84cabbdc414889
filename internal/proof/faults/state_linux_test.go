package faults

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"mqtt-nats-bridge/internal/proof"
)

// disk is a small file system for one test.
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

// takesNothing starts the bridge and waits until it logs that its lane accepts no messages,
// with the reason.
func takesNothing(r *proof.Rig, why string) {
	r.T.Helper()
	r.StartBridge()
	log := r.Bridge.Log()
	said := log.Await(r.T, r.LogOffset, "the lane takes no messages without its journal")
	line := log.String()[r.LogOffset:said]
	require.Contains(r.T, line, r.Journal())
	require.Contains(r.T, line, why)
	require.NotContains(r.T, line, "mqtt connected")
	r.LogOffset = said
}

func TestStateDisk(t *testing.T) {
	t.Parallel()
	t.Run("full disk costs nothing", testFullDiskCostsNothing)
	t.Run("read-only disk costs nothing", testReadOnlyDiskCostsNothing)
}

func testFullDiskCostsNothing(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	proof.Survive(t, proof.Fault{Name: "disk of state_dir full", Rig: proof.RigOptions{StateDir: d.dir}, Times: 2, Inject: func(r *proof.Rig) {
		// A full disk affects neither the running bridge nor a restart: the journal's blocks
		// are already allocated.
		d.fill()
		r.Bridge.Kill9()
		r.StartBridge()
		r.AwaitSession()
		// A bridge without a journal accepts no messages until the disk has room.
		r.Bridge.Kill9()
		aside := r.Journal() + ".aside"
		require.NoError(t, os.Rename(r.Journal(), aside))
		d.empty()
		d.fill()
		takesNothing(r, "no space left on device")
		require.NoError(t, os.Rename(aside, r.Journal()))
		d.empty()
		r.AwaitSession()
	}}, "2,000 per second", proof.LoadOptions{Devices: 200, Rate: 2000, Total: 12_000})
}

func testReadOnlyDiskCostsNothing(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	proof.Survive(t, proof.Fault{Name: "disk of state_dir read-only", Rig: proof.RigOptions{StateDir: d.dir}, Times: 2, Inject: func(r *proof.Rig) {
		r.Bridge.Kill9()
		d.readOnly(true)
		takesNothing(r, "read-only file system")
		d.readOnly(false)
		r.AwaitSession()
	}}, "2,000 per second", proof.LoadOptions{Devices: 200, Rate: 2000, Total: 12_000})
}
