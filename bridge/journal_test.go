//go:build unix

package bridge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func openJournal(t testing.TB, dir, client string) *Journal {
	t.Helper()
	j, movedTo, why, err := OpenJournal(dir, client)
	require.NoError(t, err)
	require.Empty(t, movedTo, why)
	t.Cleanup(func() { j.Close() })
	return j
}

func TestAReopenedJournalKeepsItsNumbers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	waiting := j.Begin(1, 11)
	stored := j.Begin(65_535, 22)
	j.Stored(65_535, stored)
	j.SetAlive(noon)
	require.NoError(t, j.Close())

	j = openJournal(t, dir, "lane")
	requireFound(t, j, 1, 11, waiting, false)
	requireFound(t, j, 65_535, 22, stored, true)
	_, _, ok := j.Find(1, 12)
	require.False(t, ok, "another content")
	_, _, ok = j.Find(2, 11)
	require.False(t, ok, "another packet id")
	require.Greater(t, j.Begin(1, 11), stored)
}

func requireFound(t *testing.T, j *Journal, packetID uint16, hash, number uint64, stored bool) {
	t.Helper()
	n, s, ok := j.Find(packetID, hash)
	require.True(t, ok)
	require.Equal(t, number, n)
	require.Equal(t, stored, s)
}

func TestAliveOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	require.Zero(t, j.Alive())
	at := time.Now().Add(-time.Hour).UnixNano()
	j.SetAlive(at)
	require.NoError(t, j.Close())
	j = openJournal(t, dir, "lane")
	require.Equal(t, at, j.Alive())
	j.SetAlive(time.Now().Add(48 * time.Hour).UnixNano())
	require.NoError(t, j.Close())
	require.Zero(t, openJournal(t, dir, "lane").Alive(), "a time to come says nothing")
}

// A number given out twice would be a false duplicate, which is a lost message.
func TestNumbersNeverRepeatAcrossReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seen := map[uint64]bool{}
	for round := range 20 {
		j := openJournal(t, dir, "lane")
		for i := range 500 {
			n := j.Begin(uint16(i%7)+1, uint64(i))
			require.False(t, seen[n])
			seen[n] = true
		}
		if round%3 == 2 {
			j.Forget() // the broker lost the session
		}
		require.NoError(t, j.Close())
	}
}

func TestNumbersOutrunTheClockAndGoOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	j.counter += 1 << 40 // from a clock far ahead
	latest := j.Begin(1, 1)
	require.NoError(t, j.Close())
	require.Equal(t, latest+1, openJournal(t, dir, "lane").Begin(1, 1))
}

func TestAnOldEntryIsNoRedelivery(t *testing.T) {
	t.Parallel()
	j := NewJournal()
	first := j.Begin(1, 7)
	for range redeliveryReach {
		j.Begin(2, 7)
	}
	requireFound(t, j, 1, 7, first, false)
	j.Begin(2, 7)
	_, _, ok := j.Find(1, 7)
	require.False(t, ok, "packet ids have come round: it is another message")
}

func TestTheReachDoesNotCountTheTimeBetweenProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	old := j.Begin(1, 7)
	next := uint16(2)
	begin := func(n int) {
		for range n {
			j.Begin(next, 7)
			next++
		}
	}
	const processes = 4
	for range processes {
		begin(100)
		j.counter += 10 << 17 // ten seconds pass
		require.NoError(t, j.Close())
		j = openJournal(t, dir, "lane")
		requireFound(t, j, 1, 7, old, false)
	}
	begin(redeliveryReach - processes*100)
	requireFound(t, j, 1, 7, old, false)
	begin(1)
	_, _, ok := j.Find(1, 7)
	require.False(t, ok)
}

// Retained copies that are skipped use up packet ids like any other message, and
// so they count after a crash too: else the message that comes round to the packet
// id of an equal one would be taken for it, and lost.
func TestTheReachCountsWhatIsPassedOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	j.Stored(1, j.Begin(1, 7))
	for id := 2; id < packetIDs; id++ {
		j.Pass(uint16(id), 9)
	}
	require.NoError(t, j.Close())
	j = openJournal(t, dir, "lane")
	_, _, ok := j.Find(1, 7)
	require.False(t, ok)
	_, stored, ok := j.Find(packetIDs-1, 9)
	require.True(t, ok && stored, "the latest copy may come again")
}

func TestStoredNeverMarksANewerMessage(t *testing.T) {
	t.Parallel()
	j := NewJournal()
	older := j.Begin(1, 7)
	newer := j.Begin(1, 7)
	j.Stored(1, older)
	requireFound(t, j, 1, 7, newer, false)
	j.Stored(1, newer)
	requireFound(t, j, 1, 7, newer, true)
}

func TestAForgottenSessionIsUnknown(t *testing.T) {
	t.Parallel()
	j := NewJournal()
	n := j.Begin(1, 7)
	j.Forget()
	_, _, ok := j.Find(1, 7)
	require.False(t, ok)
	j.Stored(1, n)
	_, _, ok = j.Find(1, 7)
	require.False(t, ok)
	require.Greater(t, j.Begin(1, 7), n)
}

func TestAnEntryTakesSixteenBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openJournal(t, dir, "lane")
	info, err := os.Stat(filepath.Join(dir, "lane.journal"))
	require.NoError(t, err)
	require.Equal(t, int64(headerSize+16*packetIDs), info.Size())
}

// A file unfit for use is moved aside, whole, and a fresh one begun.
func TestAnUnfitFileIsMovedAside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		want  string
	}{
		"garbage":         {func(b []byte) []byte { return fill(b, 0xA5) }, "it begins with"},
		"zeros":           {func(b []byte) []byte { return fill(b, 0) }, "it begins with"},
		"garbage entries": {func(b []byte) []byte { fill(b[headerSize+16:], 0xA5); return b }, "entries are damaged"},
		"two bad entries": {func(b []byte) []byte { b[headerSize+16+7]++; b[headerSize+32+12]++; return b }, "2 of its entries"},
		"truncated":       {func(b []byte) []byte { return b[:len(b)/2] }, "bytes, want"},
		"one byte":        {func(b []byte) []byte { return b[:1] }, "bytes, want"},
		"longer":          {func(b []byte) []byte { return append(b, 0) }, "bytes, want"},
		"another version": {func(b []byte) []byte { b[7] = '2'; return b }, `it begins with "MNBJRNL2"`},
		"another client":  {func(b []byte) []byte { b[8]++; return b }, "another client id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := openJournal(t, dir, "lane")
			number := j.Begin(1, 11)
			j.Begin(2, 22)
			require.NoError(t, j.Close())
			path := filepath.Join(dir, "lane.journal")
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			content = c.spoil(content)
			require.NoError(t, os.WriteFile(path, content, 0o600))

			j, movedTo, why, err := OpenJournal(dir, "lane")
			require.NoError(t, err)
			defer j.Close()
			require.ErrorContains(t, why, c.want)
			require.ErrorIs(t, why, errJournalUnfit)
			require.True(t, strings.HasPrefix(movedTo, path+"."), movedTo)
			kept, err := os.ReadFile(movedTo)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, kept), "the evidence was changed")
			_, _, ok := j.Find(1, 11)
			require.False(t, ok)
			require.NotEqual(t, number, j.Begin(1, 11))
		})
	}
}

func fill(b []byte, with byte) []byte {
	for i := range b {
		b[i] = with
	}
	return b
}

func TestAnEmptyFileIsAFreshJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lane.journal"), nil, 0o600))
	openJournal(t, dir, "lane").Begin(1, 1)
}

// A crash between the two stores of an entry leaves a new number beside an old
// hash: the message was not published, and its entry is none.
func TestATornEntryIsNoEntry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	other := j.Begin(2, 22)
	j.Begin(1, 11)
	before := j.words[3]
	j.Begin(1, 12)
	j.words[3] = before // the second store did not happen
	require.NoError(t, j.Close())
	j = openJournal(t, dir, "lane")
	for _, hash := range []uint64{11, 12} {
		_, _, ok := j.Find(1, hash)
		require.False(t, ok)
	}
	requireFound(t, j, 2, 22, other, false)
	require.Greater(t, j.Begin(1, 12), other)
}

func TestAJournalBelongsToOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir, "lane")
	_, movedTo, _, err := OpenJournal(dir, "lane")
	require.ErrorIs(t, err, ErrJournalLocked)
	require.Empty(t, movedTo)
	openJournal(t, dir, "lane-2") // another lane's is free
	require.NoError(t, j.Close())
	require.NoError(t, j.Close(), "closing again does nothing")
	openJournal(t, dir, "lane")
}

func TestEveryClientIDHasItsOwnFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := map[string]bool{}
	for _, client := range []string{
		"lane", "Lane", "../lane", "a/b", "a_b", "a:b", "ü", "\x00", "", ".", "..",
		strings.Repeat("x", 5000), strings.Repeat("x", 5001),
	} {
		name := journalName(client)
		require.False(t, names[name], client)
		names[name] = true
		require.Equal(t, name, filepath.Base(name))
		openJournal(t, dir, client)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, len(names), "nothing outside the directory")
}

func TestADirectoryThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, _, _, err := OpenJournal(filepath.Join(file, "state"), "lane")
	require.ErrorContains(t, err, "open journal: ")

	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.Mkdir(filepath.Dir(dir)+"/ro", 0o500))
	if os.Getuid() == 0 {
		return // root may write anywhere; the read-only mount below is for it
	}
	_, _, _, err = OpenJournal(filepath.Dir(dir)+"/ro", "lane")
	require.ErrorIs(t, err, os.ErrPermission)
}

// TestJournalChild is the process that TestAKilledProcessLosesNoEntry kills.
func TestJournalChild(t *testing.T) {
	dir := os.Getenv("JOURNAL_CHILD_DIR")
	if dir == "" {
		t.Skip("runs as a child of another test")
	}
	j, movedTo, why, err := OpenJournal(dir, "lane")
	require.NoError(t, err)
	require.Empty(t, movedTo, why)
	var line [20]byte
	for i := uint64(0); ; i++ {
		packetID, hash := uint16(i%1000)+1, i*0x9e3779b97f4a7c15
		n := j.Begin(packetID, hash)
		if i%2 == 0 {
			j.Stored(packetID, n)
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

// Not parallel: between fork and exec a child holds the locks of all journals
// that are open.
func TestAKilledProcessLosesNoEntry(t *testing.T) {
	dir := t.TempDir()
	var highest uint64
	for round := range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestJournalChild$")
		child.Env = append(os.Environ(), "JOURNAL_CHILD_DIR="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		r := bufio.NewReader(out)
		type entry struct {
			hash, number uint64
			stored       bool
		}
		told := map[uint16]entry{}
		read := func() bool {
			var line [20]byte
			for at := 0; at < len(line); at++ {
				c, err := r.ReadByte()
				if err != nil {
					return false
				}
				line[at] = c
			}
			n := binary.LittleEndian.Uint64(line[10:])
			require.Greater(t, n, highest, "a number came again")
			highest = n
			told[binary.LittleEndian.Uint16(line[0:])] = entry{binary.LittleEndian.Uint64(line[2:]), n, line[18] == 0}
			return true
		}
		for range 777 * (round + 1) {
			require.True(t, read())
		}
		require.NoError(t, child.Process.Kill())
		for read() {
		}
		child.Wait()

		j, movedTo, why, err := OpenJournal(dir, "lane")
		require.NoError(t, err)
		require.Empty(t, movedTo, why)
		// One message more than was told may have been begun.
		missing := 0
		for packetID, e := range told {
			n, stored, ok := j.Find(packetID, e.hash)
			if !ok {
				missing++
				continue
			}
			require.Equal(t, e.number, n)
			require.Equal(t, e.stored, stored)
		}
		require.LessOrEqual(t, missing, 1)
		require.NoError(t, j.Close())
	}
}
