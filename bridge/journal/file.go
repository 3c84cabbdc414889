//go:build unix

package journal

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

// magic contains the name and version of the format.
var magic = [8]byte{'M', 'N', 'B', 'J', 'R', 'N', 'L', '2'}

// ErrLocked means that another process has the journal open.
var ErrLocked = errors.New("journal is in use by another process")

// errUnusable means that a file is damaged, or belongs to another client id or version.
var errUnusable = errors.New("not a journal of this client id")

// Open opens or creates the journal of a client id. If the file is damaged, or of another version
// or client id, it is moved aside and a new one is created. Any other error (disk full, read-only,
// no permission, [ErrLocked]) is returned: a lane must not receive messages without its journal.
func Open(o Options) (Opened, error) {
	o.setDefaults()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return Opened{}, fmt.Errorf("open journal: %w", err)
	}
	path := filepath.Join(o.Dir, fileName(o.ClientID))
	opened, err := mapPath(path, &o)
	if !errors.Is(err, errUnusable) {
		return opened, err
	}
	movedTo, reason := fmt.Sprintf("%s.%s.damaged", path, time.Now().UTC().Format("20060102T150405.000000000")), err
	if err := os.Rename(path, movedTo); err != nil {
		return Opened{}, fmt.Errorf("move damaged journal aside: %w", err)
	}
	opened, err = mapPath(path, &o)
	opened.MovedTo, opened.Reason = movedTo, reason
	return opened, err
}

// fileName derives a file name from a client id, which may contain any character.
func fileName(clientID string) string {
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

func mapPath(path string, o *Options) (Opened, error) {
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

func mapFile(f *os.File, o *Options) (Opened, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return Opened{}, ErrLocked
		}
		return Opened{}, fmt.Errorf("lock: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return Opened{}, err
	}
	fresh := info.Size() == 0
	if !fresh && info.Size() != int64(fileSize) {
		return Opened{}, fmt.Errorf("%w: %d bytes, want %d", errUnusable, info.Size(), fileSize)
	}
	if fresh {
		// Allocate every block now: on a full disk, a store to a mapped page would raise SIGBUS.
		if err := allocate(f, fileSize); err != nil {
			f.Truncate(0)
			return Opened{}, fmt.Errorf("allocate %d bytes: %w", fileSize, err)
		}
	}
	changed := o.ChangedAt(info)
	mem, err := unix.Mmap(int(f.Fd()), 0, fileSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return Opened{}, fmt.Errorf("map: %w", err)
	}
	j := &Journal{
		header:  (*header)(unsafe.Pointer(&mem[0])),
		entries: (*[maxEntries]entry)(unsafe.Pointer(&mem[headerSize])),
	}
	opened := Opened{Journal: j}
	if fresh {
		set(&j.header.client, xxhash.Sum64String(o.ClientID))
		j.clear(1)
		j.header.magic = magic
		j.begin(time.Now(), 0, o.Epoch())
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

// load validates an existing file and finds the latest number in it. If the deliveries may be
// outdated, it discards them and returns the reason as stale.
func (j *Journal) load(o *Options, changed time.Time) (stale string, err error) {
	h := j.header
	if h.magic != magic {
		return "", fmt.Errorf("%w: it begins with %q, want %q", errUnusable, h.magic[:], magic[:])
	}
	if le(h.client) != xxhash.Sum64String(o.ClientID) {
		return "", fmt.Errorf("%w: written by another client id", errUnusable)
	}
	if end := j.End(); end == 0 || le(h.low) > end || le(h.start) > end || le(h.acked) > end {
		return "", fmt.Errorf("%w: its positions contradict each other", errUnusable)
	}
	last, ok := j.ascending()
	if !ok {
		return "", fmt.Errorf("%w: its entries are damaged", errUnusable)
	}
	// The file is valid and may be written to from here on.
	now := time.Now()
	if alive := j.Alive(); alive < 0 || alive > now.Add(24*time.Hour).UnixNano() {
		set(&h.alive, 0)
	}
	// A reboot may have lost the latest pages. A file changed after its last Beat is a copy, or was
	// used by another process.
	beat := time.Unix(0, int64(le(h.beat)))
	switch {
	case le(h.boot) != xxhash.Sum64String(o.BootID):
		stale = "the machine was rebooted or replaced"
	case changed.After(beat.Add(beatTolerance)):
		stale = fmt.Sprintf("the file was changed %s after its process last wrote to it",
			changed.Sub(beat).Round(time.Second))
	}
	if stale != "" {
		j.Forget()
	}
	j.begin(now, last, o.Epoch())
	return stale, nil
}

// writeZeros allocates blocks on file systems without fallocate.
func writeZeros(f *os.File, size int) error {
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	return f.Sync()
}
