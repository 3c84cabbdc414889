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

// A hub sources by sequence: it asks for what comes after the last number that it
// has stored. Numbers of a local stream must therefore never come twice, and two
// things could make them: a store that was lost, and a store that a power cut set
// back to what the disk had. The hub would skip what bears an old number, in
// silence.
//
// A stream made anew begins at a number taken from the clock, as the journal's
// message numbers do, and so does an empty one at each start. Where a store may have been
// set back, [Leaf.Renumber] moves the numbers on before anything is stored. A copy that was
// put back shows only when the hub speaks: [Leaf.Prove].

// sequencesPerSecond is more than a stream gets on average.
const sequencesPerSecond = 1 << 17

// sequenceFloor is above every sequence that a stream had got until now.
func sequenceFloor(now time.Time) uint64 {
	epoch := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	return max(1, uint64(max(0, now.Sub(epoch)/time.Second))*sequencesPerSecond)
}

// ErrStoreLocked: another process has the store open.
var ErrStoreLocked = errors.New("it is in use by another bridge")

// storeMark is the file beside the store that tells how its last user ended.
type storeMark struct {
	// Boot names the boot of the machine. In the same boot no write is lost,
	// however the process ended.
	Boot string `json:"boot"`
	// Clean: the files were forced to the disk after the last write.
	Clean bool `json:"clean"`
	// SetBack: the files may lack writes of an earlier boot, and the numbers have
	// not been moved on since ([Leaf.Renumber]). No end of the process mends that,
	// however clean.
	SetBack bool `json:"set_back,omitempty"`
	// Doubt has the last number of each stream when a process opened it that the hub
	// has not spoken to since. See [Leaf.Prove].
	Doubt map[string]uint64 `json:"doubt,omitempty"`
}

const storeMarkFile = "mqtt-nats-bridge.json"

// openStore makes the directory where it is missing and tells whether its files
// may lack the latest writes.
func openStore(dir string) (mark storeMark, lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return mark, nil, fmt.Errorf("make the leaf node's store: %w", err)
	}
	lock, err = lockStore(dir)
	if err != nil {
		return mark, nil, err
	}
	last, err := readStoreMark(dir)
	mark.Boot = bootID()
	if err == nil && last != nil {
		mark.SetBack = last.SetBack || !last.Clean && (mark.Boot == "" || last.Boot != mark.Boot)
		mark.Doubt = last.Doubt
	}
	if err == nil {
		err = writeStoreMark(dir, mark)
	}
	if err != nil {
		return mark, nil, errors.Join(err, lock.Close())
	}
	return mark, lock, nil
}

// closeStore forces all files to the disk.
func closeStore(dir string, mark storeMark) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
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

// readStoreMark returns nil where there is no file: the store is new.
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
		return &storeMark{}, nil // torn by what it is there to tell of
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

// bootID is empty where the system does not tell: then every unclean end counts
// as a power cut.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
