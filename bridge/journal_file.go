//go:build unix

package bridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// journalMagic is the format's name and version.
var journalMagic = [8]byte{'M', 'N', 'B', 'J', 'R', 'N', 'L', '1'}

// ErrJournalLocked: another process has the journal open.
var ErrJournalLocked = errors.New("journal is in use by another process")

// errJournalUnfit is wrapped by what makes a file no journal of this client id.
var errJournalUnfit = errors.New("not a journal of this client id")

// OpenJournal opens or makes the journal of a client id in dir. A file that is
// damaged, of another version or of another client id is moved aside and a fresh
// one begun; movedTo then names it and why says what was wrong. Any other fault
// (disk full, read-only, no permission, ErrJournalLocked) is an error: without
// its journal a lane must not take messages.
func OpenJournal(dir, clientID string) (j *Journal, movedTo string, why error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", nil, fmt.Errorf("open journal: %w", err)
	}
	path := filepath.Join(dir, journalName(clientID))
	j, err = mapJournal(path, clientID)
	if !errors.Is(err, errJournalUnfit) {
		return j, "", nil, err
	}
	why = err
	movedTo = fmt.Sprintf("%s.%s.damaged", path, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.Rename(path, movedTo); err != nil {
		return nil, "", nil, fmt.Errorf("move damaged journal aside: %w", err)
	}
	j, err = mapJournal(path, clientID)
	return j, movedTo, why, err
}

// journalName makes a file name of a client id, which may hold any character.
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

func mapJournal(path, clientID string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j, err := mapFile(f, clientID)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	return j, nil
}

func mapFile(f *os.File, clientID string) (*Journal, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrJournalLocked
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	fresh := info.Size() == 0
	if !fresh && info.Size() != int64(journalSize) {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errJournalUnfit, info.Size(), journalSize)
	}
	if fresh {
		// Every block is allocated now: a store to a mapped page that
		// finds the disk full would be a SIGBUS.
		if err := allocate(f, journalSize); err != nil {
			f.Truncate(0)
			return nil, fmt.Errorf("allocate %d bytes: %w", journalSize, err)
		}
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, journalSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	j := &Journal{
		header: (*journalHeader)(unsafe.Pointer(&mem[0])),
		words:  (*[2 * packetIDs]uint64)(unsafe.Pointer(&mem[headerSize])),
		unmap: func() error {
			return errors.Join(unix.Munmap(mem), f.Close())
		},
	}
	if fresh {
		j.header.client = xxhash.Sum64String(clientID)
		j.header.magic = journalMagic
		j.begin(time.Now())
		return j, nil
	}
	if err := j.load(clientID); err != nil {
		unix.Munmap(mem)
		return nil, err
	}
	return j, nil
}

// load checks a file that was there and finds the latest number in it.
func (j *Journal) load(clientID string) error {
	if j.header.magic != journalMagic {
		return fmt.Errorf("%w: it begins with %q, want %q", errJournalUnfit, j.header.magic[:], journalMagic[:])
	}
	if j.header.client != xxhash.Sum64String(clientID) {
		return fmt.Errorf("%w: another client id wrote it", errJournalUnfit)
	}
	broken, torn := 0, 0
	for i := 0; i < len(j.words); i += 2 {
		word, hash := j.words[i], j.words[i+1]
		if word == 0 && hash == 0 {
			continue
		}
		if checksum(word, hash) != word&checksumMask || word>>numberShift >= numberEnd {
			broken, torn = broken+1, i
			continue
		}
		j.older = append(j.older, word>>numberShift)
	}
	// A crash can cut one entry in two, the one being written.
	if broken > 1 {
		return fmt.Errorf("%w: %d of its entries are damaged", errJournalUnfit, broken)
	}
	// It is fit: from here on it may be written to.
	if alive := j.header.alive; alive < 0 || alive > time.Now().Add(24*time.Hour).UnixNano() {
		j.header.alive = 0
	}
	if broken == 1 {
		j.words[torn], j.words[torn+1] = 0, 0
	}
	slices.Sort(j.older)
	if n := len(j.older); n > 0 {
		j.last = j.older[n-1]
	}
	j.begin(time.Now())
	return nil
}

// writeZeros allocates blocks on file systems without fallocate.
func writeZeros(f *os.File, size int) error {
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	return f.Sync()
}
