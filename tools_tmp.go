//go:build tools

package tools
import (
 _ "github.com/eclipse/paho.mqtt.golang"
 _ "github.com/nats-io/nats.go"
 _ "github.com/nats-io/nats.go/jetstream"
 _ "github.com/nats-io/nats-server/v2/server"
 _ "github.com/rs/zerolog"
 _ "github.com/alecthomas/kong"
 _ "go.yaml.in/yaml/v4"
 _ "github.com/prometheus/client_golang/prometheus/promhttp"
 _ "github.com/stretchr/testify/require"
 _ "pgregory.net/rapid"
 _ "go.uber.org/goleak"
 _ "github.com/mochi-mqtt/server/v2"
 _ "github.com/compose-spec/compose-go/v2/loader"
)
