package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// mount mounts a file system with this many KiB.
func mount(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func TestJournalDisk(t *testing.T) {
	t.Parallel()
	t.Run("full disk at open is an error", testFullDiskAtOpenIsAnError)
	t.Run("disk that fills up later is harmless", testDiskThatFillsUpLaterIsHarmless)
	t.Run("read-only disk is an error", testReadOnlyDiskIsAnError)
}

// A write to a mapped page of a full disk would raise SIGBUS, so the space is allocated at the
// start; otherwise the start fails.
func testFullDiskAtOpenIsAnError(t *testing.T) {
	t.Parallel()
	dir := mount(t, "256k")
	for range 2 {
		opened, err := Open(Options{Dir: dir, ClientID: "lane"})
		require.ErrorIs(t, err, unix.ENOSPC)
		require.ErrorContains(t, err, filepath.Join(dir, "lane.journal"))
		require.Empty(t, opened.MovedTo)
	}
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=4m"))
	openJournal(t, dir, "lane").Append(1, 1, 0)
}

func testDiskThatFillsUpLaterIsHarmless(t *testing.T) {
	t.Parallel()
	dir := mount(t, "1100k")
	j := openJournal(t, dir, "lane")
	require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "other"), make([]byte, 1<<20), 0o600), unix.ENOSPC)
	for id := range PacketIDs - 1 {
		j.Append(uint16(id+1), uint64(id), 0)
	}
	require.NoError(t, j.Close())
}

func testReadOnlyDiskIsAnError(t *testing.T) {
	t.Parallel()
	dir := mount(t, "4m")
	require.NoError(t, openJournal(t, dir, "lane").Close())
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, client := range []string{"lane", "other"} {
		opened, err := Open(Options{Dir: dir, ClientID: client})
		require.ErrorIs(t, err, unix.EROFS)
		require.Empty(t, opened.MovedTo)
	}
}
