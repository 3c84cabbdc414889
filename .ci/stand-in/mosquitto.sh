#!/bin/sh
# Stand-in for the image of EMQX: its users, certificates and data directory, in mosquitto.
set -eu
umask 077
sed -n 's/^\([^,]*\),\([^,]*\),false$/\1:\2/p' /opt/emqx/etc/users.csv >/tmp/users
echo health:health >>/tmp/users
mosquitto_passwd -U /tmp/users
cat >/tmp/mosquitto.conf <<CONF
per_listener_settings true
persistence true
persistence_location /opt/emqx/data/
max_queued_messages 0
max_inflight_messages 1000
listener 1883
password_file /tmp/users
listener 8883
cafile /certs/ca.pem
certfile /certs/server.pem
keyfile /certs/server.key
require_certificate true
use_identity_as_username true
CONF
exec mosquitto -c /tmp/mosquitto.conf
