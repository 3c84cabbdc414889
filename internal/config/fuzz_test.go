package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whatever stands in the file or the environment: a complete Config or Faults,
// never a panic.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("find seeds", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "a/{tenant}/{device}", "0-3,8-b")
	}
	f.Add([]byte("topics: &t [*t, {topic: *t}]\n? [a]\n: b"), "[{topic: x}]", "auto")
	f.Add([]byte("mqtt: {url: 'mqtt://u:p@h'}\nlimits: {device: {rate: 1e-300, burst: 1}}"), "[", "-")
	name := filepath.Join(f.TempDir(), "bridge.yaml")
	f.Fuzz(func(t *testing.T, data []byte, topics, partitions string) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Sources{File: name, Env: []string{"BRIDGE_TOPICS=" + topics, "BRIDGE_LANES_PARTITIONS=" + partitions}})
		var faults *Faults
		switch {
		case err == nil:
			if c.Redacted() == "" || len(c.ClientIDs()) == 0 || len(c.Topics) == 0 {
				t.Fatal("load an incomplete configuration without a fault")
			}
		case !errors.As(err, &faults) || len(faults.List) == 0:
			t.Fatalf("fail without faults: %v", err)
		}
	})
}
