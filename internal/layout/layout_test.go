// Package layout keeps the rules about which package may import which.
package layout

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
)

const (
	module = "mqtt-nats-bridge"
	paho   = "github.com/eclipse/paho.mqtt.golang"
	natsgo = "github.com/nats-io/nats.go"
	natsd  = "github.com/nats-io/nats-server/v2/server"
	mochi  = "github.com/mochi-mqtt/server/v2"
)

type pkg struct {
	ImportPath string
	Imports    []string // direct
	Deps       []string // all
	Standard   bool
}

func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Standard", module+"/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err)
	all := map[string]pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else {
			require.NoError(t, err)
		}
		all[p.ImportPath] = p
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	t.Run("packages have no forbidden dependency", testPackagesHaveNoForbiddenDependency)
	t.Run("point one way", testPointOneWay)
	t.Run("daemon contains no test broker", testDaemonContainsNoTestBroker)
}

// The table maps a package to its forbidden dependencies, direct or indirect, with the reason.
func testPackagesHaveNoForbiddenDependency(t *testing.T) {
	t.Parallel()
	const noMQTT = "the NATS side knows nothing of MQTT"
	const noServer = "who imports it does not link nats-server"
	banned := map[string]map[string]string{
		"subjects": {
			module + "/bridge": "subjects is pure",
			"net":              "subjects does no I/O",
			"os":               "subjects does no I/O",
		},
		"bridge": {
			paho:   "the lane can be run against a simulated broker",
			natsgo: "the lane can be run against a simulated JetStream",
		},
		"mqtt": {
			natsgo: "the MQTT side knows nothing of NATS",
		},
		"jetstream/conn":     {paho: noMQTT, natsd: noServer},
		"jetstream/publish":  {paho: noMQTT, natsd: noServer},
		"jetstream/streams":  {paho: noMQTT, natsd: noServer},
		"jetstream/kv":       {paho: noMQTT, natsd: noServer},
		"jetstream/consume":  {paho: noMQTT, natsd: noServer},
		"jetstream/embedded": {paho: noMQTT},
		"jetstream/leaf":     {paho: noMQTT},
		"internal/schema":    {module: "the engine knows neither configuration"},
		"cmd/ingest": {
			paho: "ingest knows nothing of MQTT",
		},
	}
	packages := list(t)
	for name, rules := range banned {
		p, ok := packages[module+"/"+name]
		require.True(t, ok, "package %s is gone", name)
		for _, dep := range p.Deps {
			for path, why := range rules {
				if path == "os" && name == "subjects" {
					// fmt depends on os; only a direct import counts.
					require.NotContains(t, p.Imports, path, why)
					continue
				}
				require.False(t, dep == path || strings.HasPrefix(dep, path+"/"), "%s depends on %s, but %s", name, dep, why)
			}
		}
	}
}

// cmd → internal → {mqtt, jetstream/…} → bridge → bridge/… → subjects.
func testPointOneWay(t *testing.T) {
	t.Parallel()
	rank := func(path string) int {
		switch path {
		case module + "/internal/neterror", module + "/internal/sleep", module + "/internal/tlsfile":
			return 0 // standard library only, for both ends and the configuration
		}
		top, _, _ := strings.Cut(strings.TrimPrefix(path, module+"/"), "/")
		switch top {
		case "subjects":
			return 0
		case "bridge":
			return 1
		case "mqtt", "jetstream":
			return 2
		case "internal":
			return 3
		case "cmd":
			return 4
		}
		t.Fatalf("package %s has no place in the layout", path)
		return 0
	}
	for path, p := range list(t) {
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module+"/") {
				continue
			}
			from, to := rank(path), rank(imported)
			within := strings.HasPrefix(path, module+"/jetstream/") && strings.HasPrefix(imported, module+"/jetstream/") ||
				strings.HasPrefix(path, module+"/bridge/") && strings.HasPrefix(imported, module+"/bridge/") ||
				strings.HasPrefix(imported, path+"/") // a package's own subpackages
			require.True(t, to < from || to == from && (from == 3 || within), "%s imports %s", path, imported)
		}
	}
}

// Production code must not start a broker or a server by accident.
func testDaemonContainsNoTestBroker(t *testing.T) {
	t.Parallel()
	daemon := list(t)[module+"/internal/daemon"]
	require.NotContains(t, daemon.Deps, mochi)
	require.NotContains(t, daemon.Imports, natsd)
	const simulation = module + "/internal/simulate"
	for path, p := range list(t) {
		if !strings.HasPrefix(path, simulation) {
			require.False(t, slices.ContainsFunc(p.Deps, func(dep string) bool { return strings.HasPrefix(dep, simulation) }), "%s depends on the simulation", path)
		}
	}
}

// TestArchitectureTable compares the table of packages in ARCHITECTURE.md with the code. Each
// package has a row with its direct imports of this module, without those of tests. With -update
// the test writes them.
func TestArchitectureTable(t *testing.T) {
	t.Parallel()
	const name = "../../ARCHITECTURE.md"
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	all, listed := list(t), map[string]bool{}
	row := regexp.MustCompile("(?m)^(\\| ((?:`[^`]+`(?:, )?)+) \\| .* \\| )(.*)( \\|)$")
	before, table, found := strings.Cut(string(page), "| package | what it is |")
	require.True(t, found)
	table, after, _ := strings.Cut(table, "\n\n")
	table = row.ReplaceAllStringFunc(table, func(line string) string {
		m := row.FindStringSubmatch(line)
		names := strings.Split(strings.ReplaceAll(m[2], "`", ""), ", ")
		for _, name := range names {
			require.Contains(t, all, module+"/"+name)
			listed[module+"/"+name] = true
		}
		want := importsOf(all, names)
		if !golden.Update() {
			require.Equal(t, want, m[3], "the imports of %s; go test ./internal/layout -run Table -update writes them", m[2])
		}
		return m[1] + want + m[4]
	})
	if golden.Update() {
		require.NoError(t, os.WriteFile(name, []byte(before+"| package | what it is |"+table+"\n\n"+after), 0o644))
	}
	for name := range all {
		if strings.HasPrefix(name, module+"/") {
			require.True(t, listed[name], "%s has no row", name)
		}
	}
}

// importsOf returns the packages of the module that these packages import, without themselves.
func importsOf(all map[string]pkg, names []string) string {
	var imports []string
	for _, name := range names {
		for _, i := range all[module+"/"+name].Imports {
			short, ours := strings.CutPrefix(i, module+"/")
			if ours && !slices.Contains(names, short) {
				imports = append(imports, strings.TrimPrefix(short, "internal/"))
			}
		}
	}
	slices.Sort(imports)
	if imports = slices.Compact(imports); len(imports) == 0 {
		return "none"
	}
	return strings.Join(imports, ", ")
}
