package deploytest

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest"
)

// loadCompose reads dir's docker-compose.yml as docker compose does.
func loadCompose(ctx context.Context, dir string, env map[string]string) (*types.Project, error) {
	return loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml")}},
		Environment: env,
	}, loader.WithProfiles([]string{"*"}))
}

// deployment is a staged tree after make-certs.sh, and its Compose project.
func deployment(t *testing.T) (dir string, project *types.Project) {
	t.Helper()
	dir = stage(t)
	out, err := makeCerts(t, dir)
	require.NoError(t, err, out)
	env, err := dotenv.Read(filepath.Join(dir, ".env"))
	require.NoError(t, err)
	project, err = loadCompose(t.Context(), dir, env)
	require.NoError(t, err)
	return dir, project
}

func environment(t *testing.T, project *types.Project, service string) map[string]string {
	t.Helper()
	env := map[string]string{}
	for name, value := range project.Services[service].Environment {
		require.NotNil(t, value, "%s: %s has no value", service, name)
		env[name] = *value
	}
	return env
}

func TestCompose(t *testing.T) {
	t.Parallel()
	t.Run("mounted files exist and are readable", testMountedFilesExistAndAreReadable)
	t.Run("fails before make-certs.sh was run", testFailsBeforeMakeCertsShWasRun)
	t.Run("contains no password", testContainsNoPassword)
	t.Run("only device port is public", testOnlyDevicePortIsPublic)
	t.Run("ports match servers", testPortsMatchServers)
	t.Run("bridge configuration is valid", testBridgeConfigurationIsValid)
	t.Run("ingest configuration is valid", testIngestConfigurationIsValid)
	t.Run("ingest container has no privileges", testIngestContainerHasNoPrivileges)
	t.Run("users exist where they log in", testUsersExistWhereTheyLogIn)
	t.Run("images are pinned", testImagesArePinned)
	t.Run("services wait for healthy dependencies", testServicesWaitForHealthyDependencies)
	t.Run("bridge container has no privileges", testBridgeContainerHasNoPrivileges)
	t.Run("NATS store is on its volume", testNATSStoreIsOnItsVolume)
	t.Run("monitoring targets and mounted files exist", testMonitoringTargetsAndMountedFilesExist)
}

func testMountedFilesExistAndAreReadable(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	require.ElementsMatch(t, []string{"emqx", "nats", "bridge", "gate", "postgres", "ingest", "prometheus", "grafana"}, project.ServiceNames())
	binds := 0
	for _, service := range project.Services {
		for _, v := range service.Volumes {
			switch v.Type {
			case types.VolumeTypeBind:
				binds++
				require.FileExists(t, v.Source, "Docker would make a directory of it")
				require.True(t, v.ReadOnly, v.Source)
				// EMQX and the bridge do not run as root, so their files must be world-readable. On
				// the host the directory protects them.
				info, err := os.Stat(v.Source)
				require.NoError(t, err)
				require.NotZero(t, info.Mode().Perm()&0o004, v.Source)
			case types.VolumeTypeVolume:
				require.Contains(t, project.Volumes, v.Source, "not a named volume")
			default:
				require.Fail(t, "unexpected mount", "%s: %s", service.Name, v.Type)
			}
		}
		for _, s := range service.Secrets {
			require.Contains(t, project.Secrets, s.Source)
		}
	}
	require.NotZero(t, binds)
	for name, s := range project.Secrets {
		info, err := os.Stat(s.File)
		require.NoError(t, err, name)
		require.NotZero(t, info.Mode().Perm()&0o004, name)
	}
}

func testFailsBeforeMakeCertsShWasRun(t *testing.T) {
	t.Parallel()
	_, err := loadCompose(t.Context(), stage(t), nil)
	require.ErrorContains(t, err, "deploy/make-certs.sh")
}

func testContainsNoPassword(t *testing.T) {
	t.Parallel()
	found := 0
	for line := range strings.Lines(read(t, "docker-compose.yml")) {
		m := regexp.MustCompile(`^\s+([A-Z_]*(?:PASSWORD|COOKIE|TOKEN|SECRET)[A-Z_]*):\s*(.*)`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		found++
		if strings.HasSuffix(m[1], "_FILE") {
			require.Regexp(t, `^/run/secrets/\w+$`, m[2], m[1])
		} else {
			require.Regexp(t, `^\$\{[A-Z_]+:\?[^}]+\}$`, m[2], m[1])
		}
	}
	require.Equal(t, 13, found)
}

func testOnlyDevicePortIsPublic(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	for _, service := range project.Services {
		for _, p := range service.Ports {
			if p.Target == 8883 {
				require.Empty(t, p.HostIP)
			} else {
				require.Equal(t, "127.0.0.1", p.HostIP, "%s: %d", service.Name, p.Target)
			}
		}
	}
}

func testPortsMatchServers(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	nats, err := server.ProcessConfigFile(filepath.Join(root, "nats.conf"))
	require.NoError(t, err)
	emqx := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)listeners\.(\w+)\.default \{\s+bind = "0\.0\.0\.0:(\d+)"`).FindAllStringSubmatch(read(t, "deploy/emqx/emqx.conf"), -1) {
		emqx[m[1]] = m[2]
	}
	env := environment(t, project, "bridge")
	_, admin, err := net.SplitHostPort(env["BRIDGE_ADMIN_LISTEN"])
	require.NoError(t, err)
	defaults, err := config.Load(config.Sources{})
	require.NoError(t, err)
	_, defaultAdmin, err := net.SplitHostPort(defaults.Admin.Listen)
	require.NoError(t, err)

	published := func(service string) (ports []string) {
		for _, p := range project.Services[service].Ports {
			require.Equal(t, p.Published, strconv.Itoa(int(p.Target)), "the host's port is the container's")
			ports = append(ports, p.Published)
		}
		return ports
	}
	require.ElementsMatch(t, []string{strconv.Itoa(int(nats.Port)), strconv.Itoa(int(nats.HTTPPort))}, published("nats"))
	require.ElementsMatch(t, []string{emqx["tcp"], emqx["ssl"], "18083"}, published("emqx"))
	require.ElementsMatch(t, []string{admin}, published("bridge"))
	_, ingestAdmin, err := net.SplitHostPort(loadIngest(t, nil).Admin.Listen)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{ingestAdmin}, published("ingest"))
	require.ElementsMatch(t, []string{"5432"}, published("postgres"))
	require.Equal(t, defaultAdmin, admin)
	require.Contains(t, read(t, "Dockerfile"), "EXPOSE "+admin+"\n")

	for variable, want := range map[string]string{
		"BRIDGE_MQTT_URL": "mqtt://emqx:" + emqx["tcp"],
		"BRIDGE_NATS_URL": "nats://nats:" + strconv.Itoa(int(nats.Port)),
	} {
		u, err := url.Parse(env[variable])
		require.NoError(t, err)
		require.Equal(t, want, u.String(), variable)
		require.Contains(t, project.Services["bridge"].DependsOn, u.Hostname())
	}
	health := strings.Join(project.Services["nats"].HealthCheck.Test, " ")
	require.Contains(t, health, "http://127.0.0.1:"+strconv.Itoa(int(nats.HTTPPort))+"/healthz")
}

// loadConfig loads the environment as the bridge does.
func loadConfig(t *testing.T, env map[string]string) *config.Config {
	t.Helper()
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(config.Sources{Env: environ})
	require.NoError(t, err)
	require.Empty(t, c.Warnings())
	return c
}

func testBridgeConfigurationIsValid(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	env := environment(t, project, "bridge")
	for name, value := range env {
		if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok {
			env[name] = project.Secrets[secret].File
		}
	}
	c := loadConfig(t, env)
	require.Equal(t, config.Attested, c.Identity.Mode)
	require.Contains(t, read(t, "deploy/emqx/emqx.conf"), `topic = "`+c.Identity.Prefix+`/${p}/`)
	require.Greater(t, time.Duration(*project.Services["bridge"].StopGracePeriod), c.StopTimeout)
}

// loadIngest loads the environment as ingest does.
func loadIngest(t *testing.T, env map[string]string) *config.Ingest {
	t.Helper()
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	c, err := config.LoadIngest(config.Sources{Env: environ}, ingest.Check)
	require.NoError(t, err)
	require.Empty(t, c.Warnings())
	return c
}

func testIngestConfigurationIsValid(t *testing.T) {
	t.Parallel()
	dir, project := deployment(t)
	env := environment(t, project, "ingest")
	postgres := environment(t, project, "postgres")
	require.Equal(t, env["INGEST_DATABASE_PASSWORD_FILE"], postgres["POSTGRES_PASSWORD_FILE"])
	for name, value := range env {
		if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok {
			require.True(t, slices.ContainsFunc(project.Services["ingest"].Secrets, func(s types.ServiceSecretConfig) bool { return s.Source == secret }))
			env[name] = project.Secrets[secret].File
		}
	}
	c := loadIngest(t, env)
	require.Equal(t, "postgres://"+postgres["POSTGRES_USER"]+"@postgres:5432/"+postgres["POSTGRES_DB"], c.Database.URL.String())
	require.Contains(t, project.Services["ingest"].DependsOn, "postgres")
	require.Greater(t, time.Duration(*project.Services["ingest"].StopGracePeriod), c.StopTimeout)
	require.Equal(t, environment(t, project, "nats")["NATS_INGEST_PASSWORD"], c.NATS.Password.Reveal())
	// The user of nats.conf and its inbox prefix.
	nats, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	require.NoError(t, err)
	i := slices.IndexFunc(nats.Users, func(u *server.User) bool { return u.Username == c.NATS.User })
	require.GreaterOrEqual(t, i, 0)
	require.Contains(t, nats.Users[i].Permissions.Subscribe.Allow, c.NATS.InboxPrefix+".>")
}

func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	t.Run("ingest configuration is valid", testSystemdUnitsIngestConfigurationIsValid)
	t.Run("bridge configuration is valid", testSystemdUnitsBridgeConfigurationIsValid)
}

func testSystemdUnitsIngestConfigurationIsValid(t *testing.T) {
	t.Parallel()
	unit := read(t, "deploy/systemd/ingest.service")
	credentials := t.TempDir()
	for _, m := range regexp.MustCompile(`(?m)^LoadCredential=(\w+):/`).FindAllStringSubmatch(unit, -1) {
		require.NoError(t, os.WriteFile(filepath.Join(credentials, m[1]), []byte("secret\n"), 0o600))
	}
	env := map[string]string{ // variables that the administrator adds in /etc/ingest/env
		"INGEST_DATABASE_URL": "postgres://ingest@db.example.org/telemetry?sslmode=verify-full",
		"INGEST_NATS_URL":     "tls://nats.example.org", "INGEST_NATS_USER": "ingest",
	}
	for _, m := range regexp.MustCompile(`(?m)^Environment=(\w+)=(.*)$`).FindAllStringSubmatch(unit, -1) {
		env[m[1]] = strings.ReplaceAll(m[2], "%d", credentials)
	}
	c := loadIngest(t, env)
	require.Equal(t, "secret", c.Database.Password.Reveal())
	stop, err := strconv.Atoi(firstGroup(t, `(?m)^TimeoutStopSec=(\d+)$`, unit))
	require.NoError(t, err)
	require.Greater(t, time.Duration(stop)*time.Second, c.StopTimeout)
}

func testIngestContainerHasNoPrivileges(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	service := project.Services["ingest"]
	require.True(t, service.ReadOnly)
	require.Equal(t, []string{"ALL"}, service.CapDrop)
	require.Contains(t, service.SecurityOpt, "no-new-privileges:true")
	require.Empty(t, service.Volumes)
	require.Equal(t, project.Services["bridge"].User, service.User)
	require.Equal(t, project.Services["bridge"].Image, service.Image)
	require.Equal(t, types.ShellCommand{"/ingest"}, service.Entrypoint)
	require.Contains(t, read(t, "Dockerfile"), "COPY --from=build /out/ingest /ingest\n")
}

func testSystemdUnitsBridgeConfigurationIsValid(t *testing.T) {
	t.Parallel()
	unit := read(t, "deploy/systemd/mqtt-nats-bridge.service")
	credentials := t.TempDir()
	for _, m := range regexp.MustCompile(`(?m)^LoadCredential=(\w+):/`).FindAllStringSubmatch(unit, -1) {
		require.NoError(t, os.WriteFile(filepath.Join(credentials, m[1]), []byte("secret\n"), 0o600))
	}
	// Variables that the administrator adds in /etc/mqtt-nats-bridge/env.
	env := map[string]string{
		"BRIDGE_MQTT_URL": "mqtts://emqx.example.org", "BRIDGE_MQTT_USERNAME": "bridge",
		"BRIDGE_NATS_URL": "tls://nats.example.org", "BRIDGE_NATS_USER": "bridge",
	}
	for _, m := range regexp.MustCompile(`(?m)^Environment=(\w+)=(.*)$`).FindAllStringSubmatch(unit, -1) {
		env[m[1]] = strings.ReplaceAll(m[2], "%d", credentials)
	}
	c := loadConfig(t, env)
	require.Equal(t, "/var/lib/"+firstGroup(t, `(?m)^StateDirectory=(\S+)`, unit), c.StateDir)
	stop, err := strconv.Atoi(firstGroup(t, `(?m)^TimeoutStopSec=(\d+)$`, unit))
	require.NoError(t, err)
	require.Greater(t, time.Duration(stop)*time.Second, c.StopTimeout)
	require.Regexp(t, `(?m)^ExecReload=/bin/kill -HUP \$MAINPID$`, unit)
}

func testUsersExistWhereTheyLogIn(t *testing.T) {
	t.Parallel()
	dir, project := deployment(t)
	env := environment(t, project, "bridge")
	nats, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	require.NoError(t, err)
	i := slices.IndexFunc(nats.Users, func(u *server.User) bool { return u.Username == env["BRIDGE_NATS_USER"] })
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, []string{env["BRIDGE_NATS_INBOX_PREFIX"] + ".>"}, nats.Users[i].Permissions.Subscribe.Allow)
	require.Len(t, nats.Users, len(natsPasswords))
	for _, u := range nats.Users {
		require.Contains(t, project.Services["nats"].Environment, "NATS_"+strings.ToUpper(u.Username)+"_PASSWORD")
	}

	// The bridge and the server read the same password.
	secret := func(variable string) string {
		name := strings.TrimPrefix(env[variable], "/run/secrets/")
		require.True(t, slices.ContainsFunc(project.Services["bridge"].Secrets, func(s types.ServiceSecretConfig) bool { return s.Source == name }))
		b, err := os.ReadFile(project.Secrets[name].File)
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, environment(t, project, "nats")["NATS_BRIDGE_PASSWORD"], secret("BRIDGE_NATS_PASSWORD_FILE"))
	users, err := os.ReadFile(filepath.Join(dir, "deploy/secrets/users.csv"))
	require.NoError(t, err)
	require.Contains(t, string(users), "\n"+env["BRIDGE_MQTT_USERNAME"]+","+secret("BRIDGE_MQTT_PASSWORD_FILE")+",false\n")
	require.Contains(t, read(t, "deploy/emqx/acl.conf"), `{user, "`+env["BRIDGE_MQTT_USERNAME"]+`"}`)
}

func testImagesArePinned(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	mod := read(t, "go.mod")
	for _, service := range project.Services {
		require.Regexp(t, `^[\w./-]+:v?\d+\.\d+(\.\d+)?(-alpine)?$`, service.Image)
	}
	// The tests embed the same server version as the deployment.
	require.Equal(t, "nats:"+firstGroup(t, `nats-server/v2 v(\S+)`, mod)+"-alpine", project.Services["nats"].Image)
	dockerfile := read(t, "Dockerfile")
	require.Equal(t, firstGroup(t, `(?m)^go (\d+\.\d+)`, mod), firstGroup(t, `FROM .*golang:(\S+) AS build`, dockerfile))
	require.NotContains(t, dockerfile, "latest")
}

func testServicesWaitForHealthyDependencies(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	for name, service := range project.Services {
		require.NotNil(t, service.HealthCheck, name)
		require.Equal(t, "CMD", service.HealthCheck.Test[0], "%s: there may be no shell", name)
	}
	for service, peers := range map[string][]string{"bridge": {"emqx", "nats"}, "ingest": {"nats", "postgres"}} {
		for _, name := range peers {
			require.Equal(t, types.ServiceConditionHealthy, project.Services[service].DependsOn[name].Condition)
		}
	}
	require.Equal(t, types.HealthCheckTest{"CMD", "/mqtt-nats-bridge", "healthcheck"}, project.Services["bridge"].HealthCheck.Test)
	require.Equal(t, types.HealthCheckTest{"CMD", "/ingest", "healthcheck"}, project.Services["ingest"].HealthCheck.Test)
}

func testBridgeContainerHasNoPrivileges(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	bridge := project.Services["bridge"]
	require.True(t, bridge.ReadOnly)
	require.Equal(t, []string{"ALL"}, bridge.CapDrop)
	require.Contains(t, bridge.SecurityOpt, "no-new-privileges:true")
	require.Contains(t, read(t, "Dockerfile"), "USER "+bridge.User+"\n")
	require.NotContains(t, bridge.User, "0:")

	// The bridge writes only to its state directory: a volume that it owns.
	state := environment(t, project, "bridge")["BRIDGE_STATE_DIR"]
	require.True(t, slices.ContainsFunc(bridge.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == state }))
	require.Contains(t, read(t, "Dockerfile"), "--chown="+bridge.User+" /out/state "+state+"\n")
}

func testNATSStoreIsOnItsVolume(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	opts, err := server.ProcessConfigFile(filepath.Join(root, "nats.conf"))
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(project.Services["nats"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Type == types.VolumeTypeVolume && strings.HasPrefix(opts.StoreDir, v.Target+"/")
	}))
	conf := project.Services["nats"].Command[len(project.Services["nats"].Command)-1]
	require.True(t, slices.ContainsFunc(project.Services["nats"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == conf && filepath.Base(v.Source) == "nats.conf"
	}))
}

// Prometheus loads the shipped alerts and reaches the bridge and ingest at their Compose addresses.
// Grafana loads the shipped dashboards and reaches Prometheus.
func testMonitoringTargetsAndMountedFilesExist(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	var prometheus struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string                       `yaml:"job_name"`
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy/prometheus/prometheus.yml")), &prometheus))
	mounted := mounts(project, "prometheus")
	require.Equal(t, []string{"alerts.yml"}, prometheus.RuleFiles)
	require.Equal(t, "alerts.yml", filepath.Base(mounted["/etc/prometheus/alerts.yml"]))
	targets := map[string]string{}
	for _, job := range prometheus.ScrapeConfigs {
		targets[job.JobName] = job.StaticConfigs[0].Targets[0]
	}
	_, bridge, err := net.SplitHostPort(environment(t, project, "bridge")["BRIDGE_ADMIN_LISTEN"])
	require.NoError(t, err)
	_, ingest, err := net.SplitHostPort(environment(t, project, "ingest")["INGEST_ADMIN_LISTEN"])
	require.NoError(t, err)
	require.Equal(t, map[string]string{"mqtt-nats-bridge": "bridge:" + bridge, "ingest": "ingest:" + ingest}, targets)

	var sources struct {
		Datasources []struct{ Type, URL string }
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy/grafana/provisioning/prometheus.yml")), &sources))
	require.Equal(t, "prometheus", sources.Datasources[0].Type)
	require.Equal(t, "http://prometheus:9090", sources.Datasources[0].URL)
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy/grafana/provisioning/dashboards.yml")), &providers))
	dashboards := providers.Providers[0].Options.Path
	mounted = mounts(project, "grafana")
	for _, name := range []string{"dashboard.json", "ingest.json"} {
		require.Equal(t, name, filepath.Base(mounted[dashboards+"/"+name]))
	}
}

// mounts returns the files that a service mounts, by their path in the container.
func mounts(project *types.Project, service string) map[string]string {
	files := map[string]string{}
	for _, v := range project.Services[service].Volumes {
		files[v.Target] = v.Source
	}
	return files
}
