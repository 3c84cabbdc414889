package simulate

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// Sizes of the journal's header and of an entry, in bytes.
	journalHeader = 4096
	journalEntry  = 16
	// Offsets of words in the header.
	journalEnd   = 40
	journalLow   = 48
	journalAcked = 56
)

// journalFile returns the path of the lane's journal in a directory.
func journalFile(dir string) string { return filepath.Join(dir, clientID+".journal") }

// copyJournal copies the journal to a new file for the next process.
func (w *world) copyJournal(p *process, torn bool) {
	image, err := os.ReadFile(journalFile(p.dir))
	w.journals++
	w.dir = filepath.Join(w.home, strconv.Itoa(w.journals))
	if err == nil {
		err = os.Mkdir(w.dir, 0o700)
	}
	if end := binary.LittleEndian.Uint64(image[journalEnd:]) - 1; torn && p.end > 0 && end >= p.end {
		// The latest entry was not written completely, so the end is still before it.
		binary.LittleEndian.PutUint64(image[journalEnd:], end)
		clear(image[journalHeader+journalEntry*int(end%packetIDs):][:8])
	}
	if err == nil {
		err = os.WriteFile(journalFile(w.dir), image, 0o600)
	}
	if err != nil {
		w.fail(broken, "copy the journal: %v", err)
	}
}

// word changes a word in the header of the open journal of a process.
func (p *process) word(at int64, change func(uint64) uint64) {
	p.patch(at, 8, func(b []byte) { binary.LittleEndian.PutUint64(b, change(binary.LittleEndian.Uint64(b))) })
}

// forgetStored clears the stored bit of all journal entries.
func (p *process) forgetStored() {
	p.patch(journalHeader, journalEntry*512, func(b []byte) {
		for at := 0; at < len(b); at += journalEntry {
			b[at+10] &^= 1
		}
	})
}

// patch changes n bytes of the open journal of a process.
func (p *process) patch(at int64, n int, change func([]byte)) {
	b := make([]byte, n)
	f, err := os.OpenFile(journalFile(p.dir), os.O_RDWR, 0)
	if err == nil {
		_, err = f.ReadAt(b, at)
		change(b)
		if err == nil {
			_, err = f.WriteAt(b, at)
		}
		f.Close()
	}
	if err != nil {
		p.w.fail(broken, "change the journal: %v", err)
	}
}

// keepCopy saves a copy of the journal.
func (w *world) keepCopy() {
	if w.process == nil || w.setup.Memory {
		return
	}
	image, err := os.ReadFile(journalFile(w.process.dir))
	if err != nil {
		w.fail(broken, "copy the journal: %v", err)
	}
	w.image = image
}

// setback is kill -9 followed by a rollback of the journal: an operator restores a copy, or a power
// cut loses its latest pages.
func (w *world) setback(power bool) {
	if w.image == nil || w.process == nil || w.setup.Memory {
		return
	}
	w.kill(0, packetIDs, false)
	w.closeEnded()
	if err := os.WriteFile(journalFile(w.dir), w.image, 0o600); err != nil {
		w.fail(broken, "restore the journal: %v", err)
	}
	w.logf("the journal is rolled back")
	w.broker.forgive()
	w.broker.unproved = true
	if power {
		w.boots++
	} else {
		w.sleep(10 * time.Second)
		w.changed = time.Now()
	}
}
