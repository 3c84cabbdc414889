package deploytest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

func TestEMQXFindsEveryFileItNames(t *testing.T) {
	t.Parallel()
	_, project := deployment(t)
	mounted := map[string]types.ServiceVolumeConfig{}
	for _, v := range project.Services["emqx"].Volumes {
		mounted[v.Target] = v
	}
	paths := regexp.MustCompile(`"(/[\w./-]+)"`).FindAllStringSubmatch(read(t, "deploy/emqx/emqx.conf"), -1)
	require.Len(t, paths, 6)
	for _, m := range paths {
		require.Contains(t, mounted, m[1])
	}
	require.Contains(t, mounted, "/opt/emqx/etc/emqx.conf")
}

func TestEMQXHoldsNoPassword(t *testing.T) {
	t.Parallel()
	require.NotRegexp(t, `(?im)^[^#\n]*(password|cookie|secret)\s*=\s*"`, read(t, "deploy/emqx/emqx.conf"))
}

// settings drops what HOCON does not mean: comments, and how wide the gaps are.
func settings(conf string) string {
	conf = regexp.MustCompile(`(?m)(^|\s)#.*$`).ReplaceAllString(conf, "")
	return strings.Join(strings.Fields(conf), " ")
}

// Each setting closes a hole or keeps a message that EMQX's defaults would lose.
func TestEMQXSettingsThatThePromisesRestOn(t *testing.T) {
	t.Parallel()
	conf := settings(read(t, "deploy/emqx/emqx.conf"))
	for promise, setting := range map[string]string{
		"the queue of an absent bridge does not drop":     `max_mqueue_len = 200000`,
		"its session is not killed for its size":          `max_heap_size = "2GB"`,
		"it lives on":                                     `session_expiry_interval = 24h`,
		"QoS 0 is kept meanwhile":                         `mqueue_store_qos0 = true`,
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
	} {
		require.Contains(t, conf, setting, promise)
	}
}

func TestACLDeniesAttestedTopicsBeforeItAllowsDevices(t *testing.T) {
	t.Parallel()
	rules := regexp.MustCompile(`(?m)^\{.*\}\.$`).FindAllString(read(t, "deploy/emqx/acl.conf"), -1)
	require.Len(t, rules, 4)
	require.Equal(t, `{allow, {user, "bridge"}, subscribe, ["bridge/#", "$share/+/bridge/#"]}.`, rules[0])
	require.Contains(t, rules[1], `{deny, all, all, ["bridge/#", "$share/+/bridge/#",`)
	require.Equal(t, `{allow, all, all, ["tenant/${client_attrs.tenant}/device/${client_attrs.device}/#"]}.`, rules[2])
	require.Equal(t, `{deny, all}.`, rules[3])
}
