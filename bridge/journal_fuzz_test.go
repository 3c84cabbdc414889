//go:build unix

package bridge

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

// journalReading is what a second reader finds in a journal's file.
type journalReading struct {
	fit     bool
	alive   int64
	entries map[uint16]journalEntry
	last    uint64 // the highest number
}

type journalEntry struct {
	number, hash uint64
	stored       bool
}

// readJournal reads the format: a page with magic, client and time, then for each
// packet id two words, of which the first has 47 bits of number, the stored bit and
// 16 bits of checksum.
func readJournal(content []byte, client string) (r journalReading) {
	if len(content) == 0 {
		return journalReading{fit: true}
	}
	if len(content) != 4096+1<<20 || string(content[:8]) != "MNBJRNL1" ||
		binary.NativeEndian.Uint64(content[8:]) != xxhash.Sum64String(client) {
		return r
	}
	if at := int64(binary.NativeEndian.Uint64(content[16:])); at >= 0 && at <= time.Now().Add(24*time.Hour).UnixNano() {
		r.alive = at
	}
	r.entries = map[uint16]journalEntry{}
	broken := 0
	for id := range 1 << 16 {
		entry := content[4096+16*id:][:16]
		if [16]byte(entry) == [16]byte{} {
			continue
		}
		word, hash := binary.NativeEndian.Uint64(entry), binary.NativeEndian.Uint64(entry[8:])
		sum := ((word >> 16 << 16) ^ 0x9e3779b97f4a7c15 ^ hash) * 0xd6e8feb86659fd93
		sum = (sum ^ sum>>32) * 0xd6e8feb86659fd93
		e := journalEntry{number: word >> 17, hash: hash, stored: word>>16&1 == 1}
		if sum>>48 != word&0xffff || e.number >= 1<<47-1<<32 {
			broken++
			continue
		}
		r.entries[uint16(id)] = e
		r.last = max(r.last, e.number)
	}
	r.fit = broken <= 1
	return r
}

// FuzzJournalFile changes bytes and length of a journal's file. Whatever it holds
// then: it is opened or moved aside whole; nothing is found but what a second reader
// finds; a message that was not stored never is because something else in the file
// is damaged; and no number comes again.
func FuzzJournalFile(f *testing.F) {
	ones := bytes.Repeat([]byte{0xff}, 8)
	entry := func(number, stored, hash uint64) []byte {
		word := number<<numberShift | stored
		return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, word|checksum(word, hash)), hash)
	}
	f.Add(int32(0), uint32(0), []byte("MNBJRNL2"), uint32(0), []byte{})
	f.Add(int32(0), uint32(headerSize+16), make([]byte, 8), uint32(headerSize+24), []byte{1})
	f.Add(int32(0), uint32(headerSize+16), ones, uint32(16), ones)
	f.Add(int32(0), uint32(headerSize+16), ones, uint32(headerSize+32), ones)
	f.Add(int32(0), uint32(headerSize+16), entry(1<<numberBits-1, 0, 100), uint32(8), []byte{})
	f.Add(int32(0), uint32(headerSize+16), entry(1<<numberBits-1<<32-1, storedBit, 100), uint32(16), make([]byte, 8))
	f.Add(int32(0), uint32(headerSize), entry(5, 0, 0), uint32(headerSize+16*65535), entry(6, storedBit, 9))
	f.Add(int32(-1), uint32(0), []byte{}, uint32(0), []byte{})
	f.Add(int32(1), uint32(0), []byte{}, uint32(0), []byte{})
	f.Add(int32(-journalSize), uint32(0), []byte{}, uint32(0), []byte{})
	f.Add(int32(-16), uint32(journalSize-16), ones, uint32(8), ones)

	dir := f.TempDir()
	path := filepath.Join(dir, "lane.journal")
	j, _, _, err := OpenJournal(dir, "lane")
	require.NoError(f, err)
	written := map[uint16]journalEntry{}
	for id := uint16(1); id <= 4; id++ {
		hash := uint64(id) + 99
		number := j.Begin(id, hash)
		if id == 2 {
			j.Stored(id, number)
		}
		written[id] = journalEntry{number, hash, id == 2}
	}
	require.NoError(f, j.Close())
	clean, err := os.ReadFile(path)
	require.NoError(f, err)
	require.Equal(f, written, readJournal(clean, "lane").entries)

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

		j, movedTo, why, err := OpenJournal(dir, "lane")
		require.NoError(t, err)
		defer j.Close()
		require.Equal(t, want.fit, movedTo == "", "%v", why)
		if !want.fit {
			require.ErrorIs(t, why, errJournalUnfit)
			kept, err := os.ReadFile(movedTo)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, kept), "the evidence was changed")
			require.NoError(t, os.Remove(movedTo))
			want = journalReading{}
		}
		require.Equal(t, want.alive, j.Alive())
		for id := range 1 << 16 {
			e, ok := want.entries[uint16(id)]
			hash := e.hash
			if was, wasThere := written[uint16(id)]; !ok && wasThere {
				hash = was.hash
			}
			number, stored, found := j.Find(uint16(id), hash)
			if ok != found || ok && e != (journalEntry{number, hash, stored}) {
				t.Fatalf("packet id %d: found %t, number %d, stored %t; the file has %+v", id, found, number, stored, e)
			}
		}
		next := j.Begin(3, 7)
		require.Greater(t, next, want.last)
		require.Less(t, next, uint64(1)<<numberBits)
		requireFound(t, j, 3, 7, next, false)
		j.Stored(3, next)
		requireFound(t, j, 3, 7, next, true)
	})
}
