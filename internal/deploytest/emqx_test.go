package deploytest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
)

func TestEMQXConfig(t *testing.T) {
	t.Parallel()
	t.Run("referenced files are mounted", testReferencedFilesAreMounted)
	t.Run("contains no password", testEMQXConfigContainsNoPassword)
	t.Run("settings required by guarantees", testSettingsRequiredByGuarantees)
	t.Run("device limits fit bridge defaults", testDeviceLimitsFitBridgeDefaults)
	t.Run("ACL denies attested topics first", testACLDeniesAttestedTopicsFirst)
}

func testReferencedFilesAreMounted(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	mounted := map[string]types.ServiceVolumeConfig{}
	for _, v := range project.Services["emqx"].Volumes {
		mounted[v.Target] = v
	}
	paths := regexp.MustCompile(`"(/[\w./-]+)"`).FindAllStringSubmatch(read(t, "deploy/emqx/emqx.conf"), -1)
	require.Len(t, paths, 7)
	for _, m := range paths {
		require.Contains(t, mounted, m[1])
	}
	require.Contains(t, mounted, "/opt/emqx/etc/emqx.conf")
}

func testEMQXConfigContainsNoPassword(t *testing.T) {
	t.Parallel()
	require.NotRegexp(t, `(?im)^[^#\n]*(password|cookie|secret)\s*=\s*"`, read(t, "deploy/emqx/emqx.conf"))
}

// settings removes comments and redundant spaces, which HOCON ignores.
func settings(conf string) string {
	conf = regexp.MustCompile(`(?m)(^|\s)#.*$`).ReplaceAllString(conf, "")
	return strings.Join(strings.Fields(conf), " ")
}

// Each setting closes a security gap or keeps a message that EMQX's defaults would lose.
func testSettingsRequiredByGuarantees(t *testing.T) {
	t.Parallel()
	conf := settings(read(t, "deploy/emqx/emqx.conf"))
	for promise, setting := range map[string]string{
		"the queue of an absent bridge does not drop":     `max_mqueue_len = 200000`,
		"its session is not killed for its size":          `max_heap_size = "2GB"`,
		"it lives on":                                     `session_expiry_interval = 24h`,
		"QoS 0 is kept as well":                           `mqueue_store_qos0 = true`,
		"the window is the lane's":                        `max_inflight = 1000`,
		"no redelivery on a standing connection":          `retry_interval = infinity`,
		"the username is the CN":                          `peer_cert_as_username = cn`,
		"devices need a certificate":                      `verify = verify_peer, fail_if_no_peer_cert = true`,
		"a CN with wildcards is nobody":                   `regex_extract(cn, '^([^/+#]+)/([^/+#]+)$')`,
		"a CONNECT username is not an identity":           `is_not_null(client_attrs.tenant) and is_not_null(client_attrs.device)`,
		"a long topic does not cost the bridge's session": `strlen(topic) < 1024`,
		"the CN's bytes add no level":                     `bin2hexstr(username) as cn`,
		"the topic is the one that the bridge reads":      `topic = "bridge/v1/${p}/${id}/${ts}/${cn}/${topic}"`,
		"the payload is the device's":                     `payload = "${payload}"`,
		"attested copies are not retained":                `retain = false`,
		"what no rule allows is denied":                   `no_match = deny`,
		"a refused publish is not acknowledged":           `deny_action = disconnect`,
		"a refusal is not repeated from a cache":          `cache.enable = false`,
		"devices wait until the bridge is ready":          `listeners.ssl.default { bind = "0.0.0.0:8883" enable = false`,
		"no device has the client id of a lane":           `clientid_override = "concat([cn, '/', clientid])"`,
		"presence is told by EMQX, as the device's own":   `topic = "bridge/v1/${p}/${id}/${ts}/${cn}/tenant/${client_attrs.tenant}/device/${client_attrs.device}/presence"`,
		"a takeover keeps each device's order":            `mqtt.shared_subscription_strategy = hash_clientid`,
	} {
		require.Contains(t, conf, setting, promise)
	}
}

// Rules that fit only devices must not apply to the bridge: it has its own client id, and its user
// name is not that of a certificate.
func TestEMQXZones(t *testing.T) {
	t.Parallel()
	conf := settings(read(t, "deploy/emqx/emqx.conf"))
	zones := map[string]string{}
	for _, m := range regexp.MustCompile(`zones\.(\w+)(?:\.mqtt)? \{(.*?) (?:zones|authorization)\b`).FindAllStringSubmatch(strings.ReplaceAll(conf, "zones.", "zones zones."), -1) {
		zones[m[1]] = m[2]
	}
	for _, setting := range []string{"peer_cert_as_username", "clientid_override", "client_attrs_init"} {
		require.Contains(t, zones["devices"], setting)
		require.NotContains(t, zones["bridge"], setting)
		require.Equal(t, 1, strings.Count(conf, setting+" ="), setting)
	}
	require.Contains(t, conf, `listeners.tcp.default { bind = "0.0.0.0:1883" zone = bridge`)
	require.Regexp(t, `listeners\.ssl\.default \{[^}]* zone = devices `, conf)
}

// The bridge's default must accept all messages that EMQX accepts. EMQX reads up to a TLS record
// (16 KiB) in one read and gives its messages the same timestamp. Its limiter can have another
// second's worth of messages saved up.
func testDeviceLimitsFitBridgeDefaults(t *testing.T) {
	t.Parallel()
	defaults, err := config.Load(config.Sources{})
	require.NoError(t, err)
	rate, err := strconv.Atoi(firstGroup(t, `(?m)^  messages_rate = "(\d+)/s"$`, read(t, "deploy/emqx/emqx.conf")))
	require.NoError(t, err)
	require.GreaterOrEqual(t, float64(defaults.Limits.Device.Rate), float64(rate))
	const leastPublish = 2 + 2 + len("tenant/a/device/b/t") + 2 + 1
	require.GreaterOrEqual(t, defaults.Limits.Device.Burst, rate+16<<10/leastPublish)
}

// docs/emqx.md asks for the memory that the shipped limit needs.
func TestE10Sizing(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/emqx.md")
	limit := firstGroup(t, `(?m)^    max_mqueue_len = (\d+)$`, read(t, "deploy/emqx/emqx.conf"))
	queue, err := strconv.Atoi(limit)
	require.NoError(t, err)
	perMessage := regexp.MustCompile(`([\d.]+) KB per queued message of 150 B, ([\d.]+) KB per message of 10 KB`).FindStringSubmatch(page)
	require.Len(t, perMessage, 3)
	gigabytes := func(kilobytes string) float64 {
		k, err := strconv.ParseFloat(kilobytes, 64)
		require.NoError(t, err)
		return 16 * float64(queue) * k / 1e6
	}
	require.Contains(t, page, fmt.Sprintf("`max_mqueue_len = %d` and 16 lanes are %.1f million messages: %.1f GB at 150 bytes, %.0f GB at 10 KB",
		queue, 16*float64(queue)/1e6, gigabytes(perMessage[1]), gigabytes(perMessage[2])))
}

func TestGateDeployment(t *testing.T) {
	t.Parallel()
	t.Run("Compose service opens closed listener", testComposeServiceOpensClosedListener)
	t.Run("systemd unit configuration is valid", testSystemdUnitConfigurationIsValid)
}

func testComposeServiceOpensClosedListener(t *testing.T) {
	t.Parallel()
	dir, project := deployment(t)
	gate := project.Services["gate"]
	require.Equal(t, types.ShellCommand{"gate", "--bridge", "bridge:9464"}, gate.Command)
	require.Equal(t, types.HealthCheckTest{"CMD", "/mqtt-nats-bridge", "gate", "--once", "--bridge", "bridge:9464"}, gate.HealthCheck.Test)
	require.Equal(t, project.Services["bridge"].Image, gate.Image)
	require.Equal(t, project.Services["bridge"].User, gate.User)
	require.True(t, gate.ReadOnly)
	require.Equal(t, []string{"ALL"}, gate.CapDrop)
	require.Contains(t, gate.SecurityOpt, "no-new-privileges:true")
	require.NotContains(t, gate.DependsOn, "nats")

	keys, err := os.ReadFile(filepath.Join(dir, "deploy/secrets/api_keys.txt"))
	require.NoError(t, err)
	require.Contains(t, settings(read(t, "deploy/emqx/emqx.conf")), `api_key.bootstrap_file = "/opt/emqx/etc/api_keys.txt"`)
	bridge := loadConfig(t, environment(t, withSecrets(t, project, "bridge"), "bridge"))
	of := loadConfig(t, environment(t, withSecrets(t, project, "gate"), "gate"))
	require.Equal(t, of.ClientIDs(), bridge.ClientIDs(), "the gate waits for the lanes that there are")
	require.Equal(t, of.Identity.Prefix, bridge.Identity.Prefix)
	for _, c := range []*config.Config{bridge, of} {
		require.Equal(t, "http://emqx:18083", c.MQTT.EMQX.API.String())
		require.Contains(t, strings.Split(string(keys), "\n"), c.MQTT.EMQX.Key+":"+c.MQTT.EMQX.Secret.Reveal())
	}
	require.NotEqual(t, bridge.MQTT.EMQX.Key, of.MQTT.EMQX.Key)
	// The open-source edition does not know the role viewer, and skips the rest of the file after it.
	require.NotRegexp(t, `(?m):.*:`, string(keys))
}

// withSecrets replaces the secret paths in a service's variables with the paths of the files.
func withSecrets(t *testing.T, project *types.Project, service string) *types.Project {
	t.Helper()
	for name, value := range project.Services[service].Environment {
		if secret, ok := strings.CutPrefix(*value, "/run/secrets/"); ok {
			require.True(t, slices.ContainsFunc(project.Services[service].Secrets, func(s types.ServiceSecretConfig) bool { return s.Source == secret }), secret)
			file := project.Secrets[secret].File
			project.Services[service].Environment[name] = &file
		}
	}
	return project
}

func testSystemdUnitConfigurationIsValid(t *testing.T) {
	t.Parallel()
	unit := read(t, "deploy/systemd/mqtt-nats-bridge-gate.service")
	credentials := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(credentials, firstGroup(t, `(?m)^LoadCredential=(\w+):`, unit)), []byte("secret\n"), 0o600))
	env := map[string]string{ // variables that the administrator adds
		"BRIDGE_MQTT_URL": "mqtts://emqx.example.org", "BRIDGE_MQTT_USERNAME": "bridge",
		"BRIDGE_MQTT_EMQX_API": "http://127.0.0.1:18083", "BRIDGE_MQTT_EMQX_KEY": "gate",
	}
	for _, m := range regexp.MustCompile(`(?m)^Environment=(\w+)=(.*)$`).FindAllStringSubmatch(unit, -1) {
		env[m[1]] = strings.ReplaceAll(m[2], "%d", credentials)
	}
	require.Equal(t, "secret", loadConfig(t, env).MQTT.EMQX.Secret.Reveal())
	require.Regexp(t, `(?m)^ExecStart=mqtt-nats-bridge gate `, unit)
	// The gate has the same restrictions as the bridge.
	bridge := read(t, "deploy/systemd/mqtt-nats-bridge.service")
	_, confined, _ := strings.Cut(bridge, "CapabilityBoundingSet=")
	require.Contains(t, unit, "CapabilityBoundingSet="+confined)
}

func testACLDeniesAttestedTopicsFirst(t *testing.T) {
	t.Parallel()
	rules := regexp.MustCompile(`(?m)^\{.*\}\.$`).FindAllString(read(t, "deploy/emqx/acl.conf"), -1)
	require.Len(t, rules, 5)
	require.Equal(t, `{allow, {user, "bridge"}, subscribe, ["bridge/#", "$share/+/bridge/#"]}.`, rules[0])
	require.Contains(t, rules[1], `{deny, all, all, ["bridge/#", "$share/+/bridge/#",`)
	require.Equal(t, `{deny, all, publish, ["tenant/+/device/+/presence"]}.`, rules[2])
	require.Equal(t, `{allow, all, all, ["tenant/${client_attrs.tenant}/device/${client_attrs.device}/#"]}.`, rules[3])
	require.Equal(t, `{deny, all}.`, rules[4])
}
