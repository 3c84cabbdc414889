package leaf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A hub sources by sequence: it requests messages after the last sequence that it has stored. A
// sequence of a local stream must therefore never occur twice. It could after the loss of a store,
// or after a power cut that rolled a store back to what was on disk. The hub would silently skip
// messages with an old sequence.
//
// A new stream begins at a sequence derived from the clock, like the journal's message numbers, and
// so does an empty one on each start. If a store may have been rolled back, [Leaf.Renumber]
// advances the sequences before anything is stored. A restored copy can only be detected by the
// hub's report; see [Leaf.ConfirmSequences].

// sequencesPerSecond exceeds the average rate of any stream.
const sequencesPerSecond = 1 << 17

// sequenceFloor returns a sequence above every one that a stream has reached so far.
func sequenceFloor(now time.Time) uint64 {
	epoch := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	return max(1, uint64(max(0, now.Sub(epoch)/time.Second))*sequencesPerSecond)
}

// ErrStoreLocked means that another process has the store open.
var ErrStoreLocked = errors.New("it is in use by another bridge")

// storeMark is the content of the file next to the store, which records how its last user ended.
type storeMark struct {
	// Boot identifies the boot of the machine. Within one boot no write is lost, however the
	// process ends.
	Boot string `json:"boot"`
	// Clean means that the files were synced after the last write.
	Clean bool `json:"clean"`
	// RolledBack means that the files may lack writes of an earlier boot, and that the sequences
	// were not advanced since ([Leaf.Renumber]). A clean end of the process does not reset it.
	RolledBack bool `json:"set_back,omitempty"`
	// Unconfirmed contains the last sequence of each stream at the time when a process opened it,
	// until the hub has reported to that process or a later one. See [Leaf.ConfirmSequences].
	Unconfirmed map[string]uint64 `json:"doubt,omitempty"`
}

const storeMarkFile = "mqtt-nats-bridge.json"

// openStore creates the directory if it is missing and locks it. The mark records whether the files
// may lack the latest writes.
func openStore(dir string) (mark storeMark, lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return mark, nil, fmt.Errorf("create the leaf node's store: %w", err)
	}
	lock, err = lockStore(dir)
	if err != nil {
		return mark, nil, err
	}
	last, err := readStoreMark(dir)
	mark.Boot = bootID()
	if err == nil && last != nil {
		mark.RolledBack = last.RolledBack || !last.Clean && (mark.Boot == "" || last.Boot != mark.Boot)
		mark.Unconfirmed = last.Unconfirmed
	}
	if err == nil {
		err = writeStoreMark(dir, mark)
	}
	if err != nil {
		return mark, nil, errors.Join(err, lock.Close())
	}
	return mark, lock, nil
}

// closeStore syncs all files. Some may disappear during that: nats-server removes the files of a
// purge in a goroutine that Shutdown does not wait for.
func closeStore(dir string, mark storeMark) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = syncPath(path)
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("sync the leaf node's store: %w", err)
	}
	mark.Clean = true
	return writeStoreMark(dir, mark)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readStoreMark returns nil if there is no file: the store is new.
func readStoreMark(dir string) (*storeMark, error) {
	content, err := os.ReadFile(filepath.Join(dir, storeMarkFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the leaf node's store: %w", err)
	}
	mark := &storeMark{}
	if json.Unmarshal(content, mark) != nil {
		return &storeMark{}, nil // torn by the very power cut that it records
	}
	return mark, nil
}

func writeStoreMark(dir string, mark storeMark) error {
	content, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, storeMarkFile)
	err = os.WriteFile(path+".new", content, 0o600)
	if err == nil {
		err = syncPath(path + ".new")
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncPath(dir)
	}
	if err != nil {
		return fmt.Errorf("mark the leaf node's store: %w", err)
	}
	return nil
}

// bootID returns "" if the system does not report it. In that case every unclean end counts as a
// power cut.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
