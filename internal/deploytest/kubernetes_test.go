package deploytest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest"
)

// chart is the Helm chart; .ci/release renders it and checks that deploy/kubernetes is its output.
const chart = "deploy/helm/mqtt-nats-bridge/"

// pod contains the fields of a Deployment's pods that the tests check.
type pod struct {
	AutomountServiceAccountToken  bool           `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            bool           `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int            `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               map[string]any `yaml:"securityContext"`
	Containers                    []struct {
		Command         []string
		SecurityContext map[string]any `yaml:"securityContext"`
		Ports           []struct {
			ContainerPort int `yaml:"containerPort"`
		}
		VolumeMounts []struct {
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
}

// manifests reads a file of deploy/kubernetes and returns its pod, its configuration file and its
// kinds.
func manifests(t *testing.T, file string) (p pod, configuration string, kinds []string) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, "deploy/kubernetes/"+file)))
	for {
		var doc struct {
			Kind string
			Data map[string]string
			Spec struct{ Template struct{ Spec pod } }
		}
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return p, configuration, kinds
		}
		// Of the other kinds only the name is read.
		var mismatch *yaml.LoadErrors
		if err != nil && !errors.As(err, &mismatch) {
			require.NoError(t, err)
		}
		kinds = append(kinds, doc.Kind)
		switch doc.Kind {
		case "Deployment":
			require.NoError(t, err)
			p = doc.Spec.Template.Spec
		case "ConfigMap":
			configuration = doc.Data["config.yaml"]
		}
	}
}

// asMounted writes a pod's configuration file with its Secrets as the pod mounts them, and returns
// the file's name.
func asMounted(t *testing.T, p pod, configuration string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range regexp.MustCompile(`/run/secrets/\S+`).FindAllString(configuration, -1) {
		mounted := false
		for _, m := range p.Containers[0].VolumeMounts {
			mounted = mounted || m.MountPath == path.Dir(name) && m.ReadOnly
		}
		require.True(t, mounted, "no Secret is mounted for %s", name)
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	}
	file := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(configuration, "/run/secrets/", dir+"/run/secrets/")), 0o600))
	return file
}

// requireUnprivileged checks the properties that the pods of both programs share.
func requireUnprivileged(t *testing.T, p pod, program, listen string, stop time.Duration) {
	t.Helper()
	require.False(t, p.AutomountServiceAccountToken)
	require.False(t, p.EnableServiceLinks, "the variables of a service called bridge would be unknown keys")
	require.Greater(t, time.Duration(p.TerminationGracePeriodSeconds)*time.Second, stop)
	require.Equal(t, true, p.SecurityContext["runAsNonRoot"])
	require.Equal(t, 65532, p.SecurityContext["runAsUser"], "the Dockerfile's user")
	require.Equal(t, map[string]any{"type": "RuntimeDefault"}, p.SecurityContext["seccompProfile"])
	require.Len(t, p.Containers, 1)
	c := p.Containers[0]
	require.Equal(t, []string{"/" + program}, c.Command)
	require.Contains(t, read(t, "Dockerfile"), "COPY --from=build /out/"+program+" /"+program+"\n")
	require.Equal(t, map[string]any{
		"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
	}, c.SecurityContext)
	require.Equal(t, ":"+strconv.Itoa(c.Ports[0].ContainerPort), listen)
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	t.Run("bridge configuration is valid", testKubernetesBridgeConfigurationIsValid)
	t.Run("ingest configuration is valid", testKubernetesIngestConfigurationIsValid)
	t.Run("manifests match chart", testManifestsMatchChart)
	t.Run("chart contains alerts and dashboards", testChartContainsAlertsAndDashboards)
}

func testKubernetesBridgeConfigurationIsValid(t *testing.T) {
	t.Parallel()
	p, configuration, kinds := manifests(t, "bridge.yaml")
	require.ElementsMatch(t, []string{"PodDisruptionBudget", "NetworkPolicy", "ConfigMap", "Service", "Deployment"}, kinds)
	c, err := config.Load(config.Sources{File: asMounted(t, p, configuration)})
	require.NoError(t, err)
	require.Empty(t, c.Warnings())
	require.Equal(t, config.Attested, c.Identity.Mode)
	require.Contains(t, configuration, "partitions: auto")
	require.Empty(t, c.StateDir, "the pod has no volume, and replicas need none")
	require.Equal(t, "secret", c.NATS.Password.Reveal())
	requireUnprivileged(t, p, "mqtt-nats-bridge", c.Admin.Listen, c.StopTimeout)
}

func testKubernetesIngestConfigurationIsValid(t *testing.T) {
	t.Parallel()
	p, configuration, kinds := manifests(t, "ingest.yaml")
	require.ElementsMatch(t, []string{"PodDisruptionBudget", "NetworkPolicy", "ConfigMap", "Service", "Deployment"}, kinds)
	c, err := config.LoadIngest(config.Sources{File: asMounted(t, p, configuration)}, ingest.Check)
	require.NoError(t, err)
	require.Empty(t, c.Warnings())
	require.Equal(t, "secret", c.Database.Password.Reveal())
	requireUnprivileged(t, p, "ingest", c.Admin.Listen, c.StopTimeout)
}

// testManifestsMatchChart compares hashes, because the tests have no Helm.
func testManifestsMatchChart(t *testing.T) {
	t.Parallel()
	hash := sha256.New()
	for _, name := range []string{"Chart.yaml", "values.yaml", "templates/_program.tpl", "templates/bridge.yaml", "templates/ingest.yaml"} {
		_, err := io.WriteString(hash, read(t, chart+name))
		require.NoError(t, err)
	}
	for _, name := range []string{"bridge", "ingest"} {
		require.Contains(t, read(t, "deploy/kubernetes/"+name+".yaml"), fmt.Sprintf("# sha256 of what it is made from: %x\n", hash.Sum(nil)),
			"the chart has changed: run .ci/release --update")
	}
}

// The chart contains links to the shipped alerts and dashboards.
func testChartContainsAlertsAndDashboards(t *testing.T) {
	t.Parallel()
	for file, of := range map[string]string{
		"alerts.yml": "deploy/prometheus/alerts.yml", "bridge.json": "deploy/grafana/dashboard.json", "ingest.json": "deploy/grafana/ingest.json",
	} {
		require.Equal(t, read(t, of), read(t, chart+"files/"+file))
		require.Contains(t, read(t, chart+"templates/monitoring.yaml"), `.Files.Get "files/`+file+`"`)
	}
}

func TestReleaseFiles(t *testing.T) {
	t.Parallel()
	t.Run("version is the same everywhere", testVersionIsTheSameEverywhere)
	t.Run("packages install systemd units", testPackagesInstallSystemdUnits)
}

func testVersionIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	version := firstGroup(t, `(?m)^ARG VERSION=(\S+)`, read(t, "Dockerfile"))
	require.Equal(t, version, firstGroup(t, `(?m)^appVersion: (\S+)$`, read(t, chart+"Chart.yaml")))
	require.Equal(t, version, firstGroup(t, `image: mqtt-nats-bridge:(\S+)`, read(t, "docker-compose.yml")))
	require.Equal(t, version, firstGroup(t, `docker build -t mqtt-nats-bridge:(\S+)`, read(t, "Makefile")))
	require.Contains(t, read(t, "deploy/kubernetes/bridge.yaml"), `image: "mqtt-nats-bridge:`+version+`"`)
}

// All files that a package installs are in the tree, and the units read the installed paths.
func testPackagesInstallSystemdUnits(t *testing.T) {
	t.Parallel()
	var release struct {
		NFPMs []struct {
			Bindir   string
			Scripts  map[string]string
			Contents []struct{ Src, Dst, Type string }
		} `yaml:"nfpms"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, ".goreleaser.yaml")), &release))
	installed := map[string]bool{}
	for _, p := range release.NFPMs {
		require.Equal(t, "/usr/bin", p.Bindir)
		for _, c := range p.Contents {
			require.FileExists(t, filepath.Join(root, c.Src))
			installed[c.Dst] = true
			if strings.HasPrefix(c.Dst, "/etc/") {
				require.Equal(t, "config|noreplace", c.Type)
			}
		}
		for _, script := range p.Scripts {
			require.FileExists(t, filepath.Join(root, script))
		}
	}
	units, err := filepath.Glob(filepath.Join(root, "deploy/systemd/*.service"))
	require.NoError(t, err)
	require.NotEmpty(t, units)
	for _, unit := range units {
		name := filepath.Base(unit)
		require.True(t, installed["/usr/lib/systemd/system/"+name], name)
		env := firstGroup(t, `(?m)^EnvironmentFile=(\S+)$`, read(t, "deploy/systemd/"+name))
		require.True(t, installed[env], "%s reads %s", name, env)
	}
}
