//go:build unix

package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// noon is when the tests' clock starts, in ns since the epoch.
const noon = int64(1_795_435_200) * 1e9

func openJournal(t testing.TB, dir, client string) *Journal {
	t.Helper()
	opened, err := Open(Options{Dir: dir, ClientID: client})
	require.NoError(t, err)
	require.Empty(t, opened.MovedTo, opened.Reason)
	require.Empty(t, opened.Stale)
	t.Cleanup(func() { opened.Journal.Close() })
	return opened.Journal
}

func TestJournal(t *testing.T) {
	t.Parallel()
	t.Run("deliveries persist across reopening", testDeliveriesPersistAcrossReopening)
	t.Run("alive time persists across reopening", testAliveTimePersistsAcrossReopening)
	t.Run("latest deliveries are retained", testLatestDeliveriesAreRetained)
	t.Run("forgotten session is unknown", testForgottenSessionIsUnknown)
}

func testDeliveriesPersistAcrossReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	_, first := j.Append(1, 11<<17, noon)
	pos, second := j.Append(65_535, 22<<17, noon)
	j.MarkStored(pos)
	j.MarkAcked(pos)
	require.NoError(t, j.Close())

	j = openJournal(t, dir, "lane")
	requireFound(t, j, 1, first, false)
	requireFound(t, j, 2, second, true)
	require.Equal(t, []uint64{1, 2, 3}, []uint64{j.Low(), j.Unacked(), j.End()})
	require.True(t, j.SameRun([]uint64{11 << 17, 22 << 17}))
	require.False(t, j.SameRun([]uint64{22 << 17, 11 << 17}))
	_, third := j.Append(1, 11<<17, noon)
	require.Greater(t, third, second)
}

func requireFound(t *testing.T, j *Journal, pos, number uint64, stored bool) {
	t.Helper()
	n, s := j.Find(pos)
	require.Equal(t, number, n)
	require.Equal(t, stored, s)
}

func testAliveTimePersistsAcrossReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	require.Zero(t, j.Alive())
	at := time.Now().Add(-time.Hour).UnixNano()
	j.Beat(at, true)
	require.NoError(t, j.Close())
	j = openJournal(t, dir, "lane")
	require.Equal(t, at, j.Alive())
	j.Beat(time.Now().Add(48*time.Hour).UnixNano(), true)
	require.NoError(t, j.Close())
	require.Zero(t, openJournal(t, dir, "lane").Alive(), "a time to come says nothing")
}

func TestJournalNumbers(t *testing.T) {
	t.Parallel()
	t.Run("never repeat across reopening", testNeverRepeatAcrossReopening)
	t.Run("continue when ahead of the clock", testContinueWhenAheadOfTheClock)
	t.Run("restored copy gets a new epoch", testRestoredCopyGetsANewEpoch)
	t.Run("carry the time of the last beat", testCarryTheTimeOfTheLastBeat)
}

// A number that is assigned twice would cause a false duplicate, which is a lost message.
func testNeverRepeatAcrossReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seen := map[uint64]bool{}
	for round := range 20 {
		j := openJournal(t, dir, "lane")
		for i := range 500 {
			_, n := j.Append(uint16(i%7)+1, uint64(i), 0)
			require.False(t, seen[n])
			seen[n] = true
		}
		if round%3 == 2 {
			j.Forget() // the broker lost the session
		}
		require.NoError(t, j.Close())
	}
}

func testContinueWhenAheadOfTheClock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	j.number += 1 << 60 // as from a clock far ahead
	_, latest := j.Append(1, 1, 0)
	require.NoError(t, j.Close())
	_, next := openJournal(t, dir, "lane").Append(1, 1, 0)
	require.Equal(t, latest>>epochBits+1, next>>epochBits)
}

// If a copy is restored while the clock is wrong too, it begins at a number that was assigned
// already, but its epoch differs.
func testRestoredCopyGetsANewEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	j.number += 1 << 60
	j.Append(1, 1, 0)
	require.NoError(t, j.Close())
	file := filepath.Join(dir, "lane.journal")
	copied, err := os.ReadFile(file)
	require.NoError(t, err)
	seen := map[uint64]bool{}
	for range 3 {
		require.NoError(t, os.WriteFile(file, copied, 0o600))
		j := openJournal(t, dir, "lane")
		for range 100 {
			_, n := j.Append(1, 1, 0)
			require.False(t, seen[n])
			seen[n] = true
		}
		require.NoError(t, j.Close())
	}
}

// The publisher relies on this time: it must not be later than the first attempt.
func testCarryTheTimeOfTheLastBeat(t *testing.T) {
	t.Parallel()
	j := New()
	j.number = 5 // of an earlier process
	at := noon + 999_999_999
	j.Beat(at, true)
	_, n := j.Append(1, 1, at+5e9)
	require.Equal(t, noon, NumberedAt(n))
}

func testLatestDeliveriesAreRetained(t *testing.T) {
	t.Parallel()
	j := New()
	for i := range uint64(3 * maxEntries) {
		j.Append(uint16(i%(PacketIDs-1))+1, i<<17, 0)
	}
	require.Equal(t, uint64(maxEntries-1), j.End()-j.Oldest())
	for pos := j.Oldest(); pos < j.End(); pos++ {
		require.True(t, j.SameContent(pos, (pos-1)<<17))
	}
	j.MarkStored(j.Oldest() - 1)
	_, stored := j.Find(j.End() - 1)
	require.False(t, stored, "the latest took its place")
}

func testForgottenSessionIsUnknown(t *testing.T) {
	t.Parallel()
	j := New()
	pos, n := j.Append(1, 7, 0)
	j.Forget()
	require.Equal(t, j.End(), j.Low())
	_, ok := j.StartByID(1, 7)
	require.False(t, ok)
	j.MarkStored(pos)
	_, next := j.Append(1, 7, 0)
	require.Greater(t, next, n)
}

// A journal whose latest pages may be missing proves nothing about redelivered messages.
func TestStaleJournal(t *testing.T) {
	t.Parallel()
	later := func(d time.Duration) func(os.FileInfo) time.Time {
		return func(os.FileInfo) time.Time { return time.Now().Add(d) }
	}
	for name, c := range map[string]struct {
		o     Options
		stale bool
	}{
		"nothing happened":      {Options{}, false},
		"a moment later":        {Options{ChangedAt: later(time.Second)}, false},
		"copy put back":         {Options{ChangedAt: later(10 * time.Second)}, true},
		"machine went down":     {Options{BootID: "another"}, true},
		"both":                  {Options{BootID: "another", ChangedAt: later(time.Hour)}, true},
		"clock was turned back": {Options{ChangedAt: later(-time.Hour)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := openJournal(t, dir, "lane")
			_, n := j.Append(1, 7<<17, time.Now().UnixNano())
			require.NoError(t, j.Close())
			c.o.Dir, c.o.ClientID = dir, "lane"
			opened, err := Open(c.o)
			require.NoError(t, err)
			defer opened.Journal.Close()
			require.Empty(t, opened.MovedTo)
			require.Equal(t, c.stale, opened.Stale != "", opened.Stale)
			require.Equal(t, c.stale, opened.Journal.Low() == opened.Journal.End())
			_, next := opened.Journal.Append(1, 7<<17, 0)
			require.Greater(t, next, n)
		})
	}
}

func TestJournalFile(t *testing.T) {
	t.Parallel()
	t.Run("restored copy is stale", testRestoredCopyIsStale)
	t.Run("entry is 16 bytes", testEntryIs16Bytes)
	t.Run("empty file is a new journal", testEmptyFileIsANewJournal)
	t.Run("torn entry is ignored", testTornEntryIsIgnored)
	t.Run("second open fails with ErrLocked", testSecondOpenFailsWithErrLocked)
	t.Run("each client id has its own file", testEachClientIdHasItsOwnFile)
	t.Run("unwritable directory is an error", testUnwritableDirectoryIsAnError)
}

// The file's own time reveals a copy, whatever times were copied with it.
func testRestoredCopyIsStale(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	j.Append(1, 7, time.Now().UnixNano())
	require.NoError(t, j.Close())
	file := filepath.Join(dir, "lane.journal")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	info, err := os.Stat(file)
	require.NoError(t, err)
	hourAgo := time.Now().Add(-time.Hour)
	binary.LittleEndian.PutUint64(content[32:], uint64(hourAgo.UnixNano())) // the time of its last write
	require.NoError(t, os.WriteFile(file, content, 0o600))
	require.NoError(t, os.Chtimes(file, hourAgo, hourAgo))
	require.Greater(t, info.ModTime(), hourAgo)
	opened, err := Open(Options{Dir: dir, ClientID: "lane"})
	require.NoError(t, err)
	defer opened.Journal.Close()
	require.Contains(t, opened.Stale, "the file was changed 1h0m")
}

func testEntryIs16Bytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openJournal(t, dir, "lane")
	info, err := os.Stat(filepath.Join(dir, "lane.journal"))
	require.NoError(t, err)
	require.Equal(t, int64(headerSize+16*PacketIDs), info.Size())
}

// An unusable file is moved aside, whole, and a new one is created.
func TestUnfitJournalFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		want  string
	}{
		"garbage":         {func(b []byte) []byte { return fill(b, 0xA5) }, "it begins with"},
		"zeros":           {func(b []byte) []byte { return fill(b, 0) }, "it begins with"},
		"garbage entries": {func(b []byte) []byte { fill(b[headerSize:], 0xA5); return b }, "entries are damaged"},
		"no packet id":    {func(b []byte) []byte { fill(b[headerSize+32+8:][:2], 0); return b }, "entries are damaged"},
		"wrong order":     {func(b []byte) []byte { b[headerSize+16+7]++; return b }, "entries are damaged"},
		"beyond its end":  {func(b []byte) []byte { b[48+7]++; return b }, "positions contradict"},
		"truncated":       {func(b []byte) []byte { return b[:len(b)/2] }, "bytes, want"},
		"one byte":        {func(b []byte) []byte { return b[:1] }, "bytes, want"},
		"longer":          {func(b []byte) []byte { return append(b, 0) }, "bytes, want"},
		"another version": {func(b []byte) []byte { b[7] = '1'; return b }, `it begins with "MNBJRNL1"`},
		"another client":  {func(b []byte) []byte { b[8]++; return b }, "another client id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := openJournal(t, dir, "lane")
			_, number := j.Append(1, 11, 0)
			j.Append(2, 22, 0)
			require.NoError(t, j.Close())
			path := filepath.Join(dir, "lane.journal")
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			content = c.spoil(content)
			require.NoError(t, os.WriteFile(path, content, 0o600))

			opened, err := Open(Options{Dir: dir, ClientID: "lane"})
			require.NoError(t, err)
			j, movedTo := opened.Journal, opened.MovedTo
			defer j.Close()
			require.ErrorContains(t, opened.Reason, c.want)
			require.ErrorIs(t, opened.Reason, errUnusable)
			require.True(t, strings.HasPrefix(movedTo, path+"."), movedTo)
			kept, err := os.ReadFile(movedTo)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, kept), "the evidence was changed")
			require.Equal(t, j.Low(), j.End())
			_, next := j.Append(1, 11, 0)
			require.NotEqual(t, number, next)
		})
	}
}

func fill(b []byte, with byte) []byte {
	for i := range b {
		b[i] = with
	}
	return b
}

func testEmptyFileIsANewJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lane.journal"), nil, 0o600))
	openJournal(t, dir, "lane").Append(1, 1, 0)
}

// A crash within Append leaves its data beyond the end. The message was not published yet, so this
// is not an entry.
func testTornEntryIsIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	_, other := j.Append(2, 22, 0)
	*j.at(j.End()) = entry{number: 5}
	require.NoError(t, j.Close())
	j = openJournal(t, dir, "lane")
	require.Equal(t, uint64(2), j.End())
	requireFound(t, j, 1, other, false)
}

func testSecondOpenFailsWithErrLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	_, err := Open(Options{Dir: dir, ClientID: "lane"})
	require.ErrorIs(t, err, ErrLocked)
	openJournal(t, dir, "lane-2") // the journal of another lane is free
	require.NoError(t, j.Close())
	require.NoError(t, j.Close(), "closing again does nothing")
	openJournal(t, dir, "lane")
}

func testEachClientIdHasItsOwnFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := map[string]bool{}
	for _, client := range []string{
		"lane", "Lane", "../lane", "a/b", "a_b", "a:b", "ü", "\x00", "", ".", "..",
		strings.Repeat("x", 5000), strings.Repeat("x", 5001),
	} {
		name := fileName(client)
		require.False(t, names[name], client)
		names[name] = true
		require.Equal(t, name, filepath.Base(name))
		openJournal(t, dir, client)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, len(names), "nothing outside the directory")
}

func testUnwritableDirectoryIsAnError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(Options{Dir: filepath.Join(file, "state"), ClientID: "lane"})
	require.ErrorContains(t, err, "open journal: ")

	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.Mkdir(filepath.Dir(dir)+"/ro", 0o500))
	if os.Getuid() == 0 {
		return // root may write anywhere; the read-only mount below covers it
	}
	_, err = Open(Options{Dir: filepath.Dir(dir) + "/ro", ClientID: "lane"})
	require.ErrorIs(t, err, os.ErrPermission)
}

// TestJournalChild is the process that TestJournalKilledProcess kills.
func TestJournalChild(t *testing.T) {
	dir := os.Getenv("JOURNAL_CHILD_DIR")
	if dir == "" {
		t.Skip("runs as a child of another test")
	}
	j := openJournal(t, dir, "lane")
	var line [20]byte
	for i := uint64(0); ; i++ {
		packetID, hash := uint16(i%1000)+1, i*0x9e3779b97f4a7c15
		pos, n := j.Append(packetID, hash, time.Now().UnixNano())
		if i%2 == 0 {
			j.MarkStored(pos)
		}
		binary.LittleEndian.PutUint16(line[0:], packetID)
		binary.LittleEndian.PutUint64(line[2:], hash)
		binary.LittleEndian.PutUint64(line[10:], n)
		line[18] = byte(i % 2)
		line[19] = '\n'
		if _, err := os.Stdout.Write(line[:]); err != nil {
			return
		}
	}
}

// Not parallel: between fork and exec a child has the locks of all open journals.
func TestJournalKilledProcess(t *testing.T) {
	dir := t.TempDir()
	var highest uint64
	for round := range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestJournalChild$")
		child.Env = append(os.Environ(), "JOURNAL_CHILD_DIR="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		r := bufio.NewReader(out)
		var told []fileEntry
		read := func() bool {
			var line [20]byte
			if _, err := io.ReadFull(r, line[:]); err != nil {
				return false
			}
			n := binary.LittleEndian.Uint64(line[10:])
			require.Greater(t, n, highest, "a number came again")
			highest = n
			told = append(told, fileEntry{n, binary.LittleEndian.Uint64(line[2:]), binary.LittleEndian.Uint16(line[0:]), line[18] == 0})
			return true
		}
		for range 777 * (round + 1) {
			require.True(t, read())
		}
		require.NoError(t, child.Process.Kill())
		for read() {
		}
		child.Wait()

		j := openJournal(t, dir, "lane")
		// One message more than the child reported may have been begun.
		end := j.End()
		if last, _ := j.Find(end - 1); last != told[len(told)-1].number {
			end--
		}
		for i, e := range told {
			pos := end - uint64(len(told)-i)
			n, stored := j.Find(pos)
			require.Equal(t, e.number, n)
			require.Equal(t, e.stored, stored)
			require.Equal(t, e.packetID, j.PacketID(pos))
			require.True(t, j.SameContent(pos, e.hash))
		}
		require.NoError(t, j.Close())
	}
}

// scanByID is byID without state cached between calls.
func scanByID(j *Journal, packetID uint16) (pos uint64, proved bool) {
	end, low, span := j.End(), j.Low(), uint64(0)
	for pos = end - 1; pos >= low; pos-- {
		if pos < end-1 {
			step := idStep(j.PacketID(pos), j.PacketID(pos+1))
			if span += step; step == 0 || span >= PacketIDs-1 {
				return 0, false
			}
		}
		if j.PacketID(pos) != packetID {
			continue
		}
		if pos <= le(j.header.start) || pos <= j.Oldest() {
			return pos, false
		}
		step := idStep(j.PacketID(pos-1), packetID)
		return pos, step > 0 && span+step < PacketIDs-1
	}
	return 0, false
}

// The state cached between calls changes no answer, whatever happens to the journal between them.
func TestJournalByID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		j := New()
		id := rapid.Uint16Range(1, PacketIDs-1).Draw(t, "first")
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0: // out of order
				id = rapid.Uint16Range(1, PacketIDs-1).Draw(t, "id")
				j.Append(id, 1, 0)
			case 1:
				j.MarkConfirmed(rapid.Uint64Range(j.Low(), j.End()).Draw(t, "low"))
			case 2:
				j.Forget()
			case 3:
				j.Settle(id, rapid.Bool().Draw(t, "keep"))
			case 4:
				if n := j.End() - j.Low(); n > 0 {
					from := j.End() - rapid.Uint64Range(1, min(n, 50)).Draw(t, "run")
					ids := make([]uint16, j.End()-from)
					for i := range ids {
						ids[i] = uint16(i + 1)
					}
					j.Resume(from, ids)
					id = ids[len(ids)-1]
				}
			default: // consecutive, with gaps in the ids, through the wrap-around and beyond the cached part
				skip := rapid.IntRange(1, 3000).Draw(t, "skip")
				for range rapid.SampledFrom([]int{1, 5, 300, 70_000}).Draw(t, "n") {
					id = uint16(int(id)%(PacketIDs-1) + 1)
					j.Append(id, 1, 0)
				}
				id = uint16((int(id)-1+skip)%(PacketIDs-1) + 1)
				j.Append(id, 1, 0)
			}
			for _, asked := range []uint16{id, uint16((int(id)-1+PacketIDs-1-rapid.IntRange(0, 400).Draw(t, "back"))%(PacketIDs-1) + 1), rapid.Uint16Range(1, PacketIDs-1).Draw(t, "asked")} {
				pos, proved := scanByID(j, asked)
				gotPos, gotProved := j.byID(asked)
				require.Equal(t, []any{pos, proved}, []any{gotPos, gotProved}, "id %d", asked)
			}
		}
	})
}
