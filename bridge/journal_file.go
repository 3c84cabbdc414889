//go:build unix

package bridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// journalMagic is the format's name and version.
var journalMagic = [8]byte{'M', 'N', 'B', 'J', 'R', 'N', 'L', '2'}

// ErrJournalLocked means that another process has the journal open.
var ErrJournalLocked = errors.New("journal is in use by another process")

// errJournalUnfit is wrapped by what makes a file no journal of this client id.
var errJournalUnfit = errors.New("not a journal of this client id")

// OpenJournal opens or creates the journal of a client id. A file that is damaged, of
// another version or of another client id is moved aside and a fresh one begun. Any
// other error (disk full, read-only, no permission, ErrJournalLocked) is returned:
// without its journal a lane must not take messages.
func OpenJournal(o JournalOptions) (Opened, error) {
	o.setDefaults()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return Opened{}, fmt.Errorf("open journal: %w", err)
	}
	path := filepath.Join(o.Dir, journalName(o.ClientID))
	opened, err := mapJournal(path, &o)
	if !errors.Is(err, errJournalUnfit) {
		return opened, err
	}
	movedTo, why := fmt.Sprintf("%s.%s.damaged", path, time.Now().UTC().Format("20060102T150405.000000000")), err
	if err := os.Rename(path, movedTo); err != nil {
		return Opened{}, fmt.Errorf("move damaged journal aside: %w", err)
	}
	opened, err = mapJournal(path, &o)
	opened.MovedTo, opened.Reason = movedTo, why
	return opened, err
}

// journalName makes a file name of a client id, which may contain any character.
func journalName(clientID string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, clientID)
	if name != clientID || len(name) > 100 {
		name = fmt.Sprintf("%.100s-%016x", name, xxhash.Sum64String(clientID))
	}
	return name + ".journal"
}

func mapJournal(path string, o *JournalOptions) (Opened, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return Opened{}, fmt.Errorf("open journal: %w", err)
	}
	opened, err := mapFile(f, o)
	if err != nil {
		f.Close()
		return Opened{}, fmt.Errorf("open journal %s: %w", path, err)
	}
	return opened, nil
}

func mapFile(f *os.File, o *JournalOptions) (Opened, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return Opened{}, ErrJournalLocked
		}
		return Opened{}, fmt.Errorf("lock: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return Opened{}, err
	}
	fresh := info.Size() == 0
	if !fresh && info.Size() != int64(journalSize) {
		return Opened{}, fmt.Errorf("%w: %d bytes, want %d", errJournalUnfit, info.Size(), journalSize)
	}
	if fresh {
		// Every block is allocated now: a store to a mapped page that
		// finds the disk full would be a SIGBUS.
		if err := allocate(f, journalSize); err != nil {
			f.Truncate(0)
			return Opened{}, fmt.Errorf("allocate %d bytes: %w", journalSize, err)
		}
	}
	changed := o.ChangedAt(info)
	mem, err := unix.Mmap(int(f.Fd()), 0, journalSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return Opened{}, fmt.Errorf("map: %w", err)
	}
	j := &Journal{
		header:  (*journalHeader)(unsafe.Pointer(&mem[0])),
		entries: (*[journalEntries]journalEntry)(unsafe.Pointer(&mem[headerSize])),
	}
	opened := Opened{Journal: j}
	if fresh {
		set(&j.header.client, xxhash.Sum64String(o.ClientID))
		j.clear(1)
		j.header.magic = journalMagic
		j.begin(time.Now(), 0)
	} else if opened.Stale, err = j.load(o, changed); err != nil {
		unix.Munmap(mem)
		return Opened{}, err
	}
	set(&j.header.boot, xxhash.Sum64String(o.BootID))
	set(&j.header.beat, uint64(time.Now().UnixNano()))
	header := j.header
	j.unmap = func() error {
		set(&header.beat, uint64(time.Now().UnixNano()))
		return errors.Join(unix.Munmap(mem), f.Close())
	}
	return opened, nil
}

// load checks a file that was there, finds the latest number in it, and forgets the
// deliveries if they cannot be the latest ones: stale says why.
func (j *Journal) load(o *JournalOptions, changed time.Time) (stale string, err error) {
	h := j.header
	if h.magic != journalMagic {
		return "", fmt.Errorf("%w: it begins with %q, want %q", errJournalUnfit, h.magic[:], journalMagic[:])
	}
	if le(h.client) != xxhash.Sum64String(o.ClientID) {
		return "", fmt.Errorf("%w: another client id wrote it", errJournalUnfit)
	}
	if end := j.end(); end == 0 || le(h.low) > end || le(h.start) > end || le(h.acked) > end {
		return "", fmt.Errorf("%w: its positions contradict each other", errJournalUnfit)
	}
	last, ok := j.ascending()
	if !ok {
		return "", fmt.Errorf("%w: its entries are damaged", errJournalUnfit)
	}
	// It is fit: from here on it may be written to.
	now := time.Now()
	if alive := j.Alive(); alive < 0 || alive > now.Add(24*time.Hour).UnixNano() {
		set(&h.alive, 0)
	}
	// A stop of the machine may have taken its latest pages; and what was changed
	// after the last sign of life of its process is a copy, or was in other hands.
	beat := time.Unix(0, int64(le(h.beat)))
	switch {
	case le(h.boot) != xxhash.Sum64String(o.BootID):
		stale = "the machine was started anew, or is another one"
	case changed.After(beat.Add(beatTolerance)):
		stale = fmt.Sprintf("the file was changed %s after its process last wrote to it",
			changed.Sub(beat).Round(time.Second))
	}
	if stale != "" {
		j.Forget()
	}
	j.begin(now, last)
	return stale, nil
}

// writeZeros allocates blocks on file systems without fallocate.
func writeZeros(f *os.File, size int) error {
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	return f.Sync()
}
