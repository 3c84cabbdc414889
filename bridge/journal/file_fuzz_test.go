//go:build unix

package journal

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

// journalReading is the content of a journal's file as an independent reader finds it.
type reading struct {
	fit                    bool
	alive                  int64
	end, low, acked, start uint64
	boot                   uint64
	entries                []fileEntry // from the oldest to the latest
}

type fileEntry struct {
	number, hash uint64
	packetID     uint16
	stored       bool
}

// readJournal reads the format according to its table in DESIGN.md.
func readJournal(content []byte, client string) (r reading) {
	if len(content) == 0 {
		return reading{fit: true, end: 1, low: 1, acked: 1, start: 1}
	}
	if len(content) != 4096+1<<20 || string(content[:8]) != "MNBJRNL2" {
		return r
	}
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(content[at:]) }
	if word(8) != xxhash.Sum64String(client) {
		return r
	}
	r.boot = word(16)
	if at := int64(word(24)); at >= 0 && at <= time.Now().Add(24*time.Hour).UnixNano() {
		r.alive = at
	}
	r.end, r.low, r.acked, r.start = word(40), word(48), word(56), word(64)
	r.fit = r.end > 0 && r.low <= r.end && r.acked <= r.end && r.start <= r.end
	if !r.fit {
		return r
	}
	oldest := uint64(1)
	if r.end > 1<<16 {
		oldest = r.end - 1<<16 + 1
	}
	for pos := oldest; pos < r.end; pos++ {
		at := 4096 + 16*int(pos%(1<<16))
		e := fileEntry{
			number: word(at), hash: word(at+8) >> 17,
			stored: content[at+10]&1 == 1, packetID: binary.LittleEndian.Uint16(content[at+8:]),
		}
		if n := len(r.entries); e.packetID == 0 || e.number == 0 || n > 0 && e.number <= r.entries[n-1].number {
			r.fit = false
		}
		r.entries = append(r.entries, e)
	}
	return r
}

// FuzzJournalFile changes bytes and length of a journal's file. The changed file is either opened
// or moved aside whole. The journal finds only entries that an independent reader finds, and no
// number is assigned twice.
func FuzzJournalFile(f *testing.F) {
	ones := bytes.Repeat([]byte{0xff}, 8)
	f.Add(int32(0), uint32(0), []byte("MNBJRNL1"), uint32(0), []byte{})
	f.Add(int32(0), uint32(headerSize+16), make([]byte, 8), uint32(headerSize+24), []byte{1})
	f.Add(int32(0), uint32(headerSize+16), ones, uint32(24), ones)
	f.Add(int32(0), uint32(headerSize+16), ones, uint32(headerSize+32), ones)
	f.Add(int32(0), uint32(40), []byte{2}, uint32(8), []byte{})
	f.Add(int32(0), uint32(40), []byte{1, 0, 1}, uint32(48), []byte{9, 0, 1})
	f.Add(int32(0), uint32(47), []byte{0xff}, uint32(48), make([]byte, 24))
	f.Add(int32(0), uint32(16), ones, uint32(32), ones)
	f.Add(int32(-1), uint32(0), []byte{}, uint32(0), []byte{})
	f.Add(int32(1), uint32(0), []byte{}, uint32(0), []byte{})
	f.Add(int32(-fileSize), uint32(0), []byte{}, uint32(0), []byte{})

	dir := f.TempDir()
	path := filepath.Join(dir, "lane.journal")
	o := Options{Dir: dir, ClientID: "lane", ChangedAt: func(os.FileInfo) time.Time { return time.Time{} }}
	opened, err := Open(o)
	require.NoError(f, err)
	j := opened.Journal
	var written []fileEntry
	for id := uint16(1); id <= 4; id++ {
		hash := (uint64(id) + 99) << 17
		pos, number := j.Append(id, hash, 0)
		if id == 2 {
			j.MarkStored(pos)
		}
		written = append(written, fileEntry{number, hash >> 17, id, id == 2})
	}
	j.MarkAcked(3)
	require.NoError(f, j.Close())
	clean, err := os.ReadFile(path)
	require.NoError(f, err)
	reading := readJournal(clean, "lane")
	require.Equal(f, written, reading.entries)
	require.Equal(f, []uint64{5, 1, 3, 1}, []uint64{reading.end, reading.low, reading.acked, reading.start})

	f.Fuzz(func(t *testing.T, longer int32, at1 uint32, patch1 []byte, at2 uint32, patch2 []byte) {
		content := append([]byte(nil), clean...)
		copy(content[int(at1)%len(content):], patch1)
		copy(content[int(at2)%len(content):], patch2)
		if longer < 0 {
			content = content[:max(len(content)+int(longer), 0)]
		}
		content = append(content, make([]byte, max(longer, 0)%4096)...)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		want := readJournal(content, "lane")

		opened, err := Open(o)
		require.NoError(t, err)
		j := opened.Journal
		defer j.Close()
		require.Equal(t, want.fit, opened.MovedTo == "", "%v", opened.Reason)
		if !want.fit {
			require.ErrorIs(t, opened.Reason, errUnusable)
			kept, err := os.ReadFile(opened.MovedTo)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, kept), "the evidence was changed")
			require.NoError(t, os.Remove(opened.MovedTo))
			want = readJournal(nil, "lane")
		}
		require.Equal(t, want.alive, j.Alive())
		require.Equal(t, want.end, j.End())
		if len(content) > 0 && want.boot != reading.boot && want.boot > 0 {
			require.NotEmpty(t, opened.Stale)
		}
		if opened.Stale != "" {
			require.Equal(t, j.End(), j.Low(), "deliveries of a stale journal can be found")
		}
		for i, e := range want.entries {
			number, stored := j.Find(j.Oldest() + uint64(i))
			require.Equal(t, e, fileEntry{number, e.hash, e.packetID, stored})
		}
		pos, next := j.Append(3, 7, 0)
		for _, e := range want.entries {
			require.NotEqual(t, e.number, next)
		}
		j.MarkStored(pos)
		number, stored := j.Find(pos)
		require.Equal(t, next, number)
		require.True(t, stored)
	})
}
