#!/bin/sh
# Makes the certificates and passwords that docker-compose.yml needs: for a try on one
# machine, not for a fleet (whose CA does not lie beside its certificates).
#
#   deploy/make-certs.sh [-f] [TENANT/DEVICE ...]
#
# Run again, it keeps what is there and makes what is missing; a TENANT/DEVICE adds a
# certificate with that CN. -f makes everything anew: a volume that knows the old
# passwords must then go too (docker compose down -v).
# SERVER_NAMES="DNS:mqtt.example.org,IP:192.0.2.7" adds names to the broker's certificate.

set -eu
umask 077

deploy=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$deploy")
certs=$deploy/certs
secrets=$deploy/secrets
days=365

fail() {
  echo "make-certs: $*" >&2
  exit 1
}

force=no
while getopts fh flag; do
  case $flag in
    f) force=yes ;;
    h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "usage: make-certs.sh [-f] [TENANT/DEVICE ...]" ;;
  esac
done
shift $((OPTIND - 1))
for cn; do
  case $cn in
    /* | */ | */*/* | *[!A-Za-z0-9._/-]*) fail "$cn: a CN is TENANT/DEVICE, of letters, digits, . _ and -" ;;
    */*) ;;
    *) fail "$cn: a CN is TENANT/DEVICE" ;;
  esac
done
command -v openssl >/dev/null || fail "openssl is not installed"

# The directories are the owner's alone, the files in them readable by all: a container
# gets single files mounted, and reads them as a user that the host does not know.
mkdir -p "$certs/devices" "$secrets"
chmod 700 "$certs" "$certs/devices" "$secrets"
work=$(mktemp -d "$certs/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT PIPE TERM

# wanted FILE ...: are they to be made? Says so where all of them are kept.
wanted() {
  [ "$force" = no ] || return 0
  for file; do
    [ -s "$file" ] || return 0
  done
  echo "kept  ${1#"$root"/}"
  return 1
}

# install_as FILE < content: written whole or not at all.
install_as() {
  cat >"$work/install"
  [ -s "$work/install" ] || fail "nothing to write to $1"
  chmod "${2:-644}" "$work/install"
  mv "$work/install" "$1"
  echo "made  ${1#"$root"/}"
}

# sign CN EXTENSIONS OUT: OUT.key and OUT.pem, signed by the CA.
sign() {
  subject=$(printf '%s' "$1" | sed 's,[/+\\],\\&,g')
  printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
    subjectKeyIdentifier=hash authorityKeyIdentifier=keyid "$2" >"$work/ext"
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/key"
  openssl req -new -key "$work/key" -subj "/CN=$subject" -out "$work/csr"
  [ -s "$certs/ca.key" ] || fail "sign the certificate of $1: deploy/certs/ca.key is missing; -f makes a new CA"
  openssl x509 -req -in "$work/csr" -CA "$certs/ca.pem" -CAkey "$certs/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -days "$days" -sha256 -extfile "$work/ext" -out "$work/pem" 2>/dev/null || fail "sign the certificate of $1"
  install_as "$3.key" <"$work/key"
  install_as "$3.pem" <"$work/pem"
}

# password FILE: random; a letter first, for nats-server reads 123e4 as a number.
password() {
  if wanted "$1"; then
    printf 'p%s' "$(openssl rand -hex 20)" | install_as "$1"
  fi
}

if wanted "$certs/ca.pem"; then
  # What another CA signed is worth nothing under this one.
  if [ "$force" = no ] && [ -s "$certs/server.pem" ]; then
    fail "deploy/certs has certificates and no CA: -f makes all of them anew"
  fi
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/ca.key"
  printf '%s\n' '[req]' distinguished_name=dn prompt=no x509_extensions=ca '[dn]' 'CN=mqtt-nats-bridge trial CA' \
    '[ca]' basicConstraints=critical,CA:TRUE,pathlen:0 keyUsage=critical,keyCertSign,cRLSign subjectKeyIdentifier=hash >"$work/ca.cnf"
  openssl req -x509 -new -key "$work/ca.key" -config "$work/ca.cnf" -days 3650 -sha256 -out "$work/ca.pem"
  install_as "$certs/ca.key" 600 <"$work/ca.key"
  install_as "$certs/ca.pem" <"$work/ca.pem"
fi

if wanted "$certs/server.pem" "$certs/server.key"; then
  sign emqx "extendedKeyUsage=serverAuth
subjectAltName=DNS:emqx,DNS:localhost,IP:127.0.0.1,IP:::1${SERVER_NAMES:+,$SERVER_NAMES}" "$certs/server"
fi
for cn in acme/dev-1 acme/dev-2 globex/dev-1 "$@"; do
  out=$certs/devices/$(printf '%s' "$cn" | tr / _)
  if wanted "$out.pem" "$out.key"; then
    sign "$cn" extendedKeyUsage=clientAuth "$out"
  fi
done

for user in mqtt_bridge nats_bridge nats_ingest nats_operator postgres_ingest emqx_dashboard emqx_cookie emqx_api_bridge emqx_api_gate grafana_admin; do
  password "$secrets/$user.txt"
done

# EMQX's bootstrap files and Compose's .env say again what the password files say, so
# they are written on every run and cannot disagree with them.
install_as "$secrets/users.csv" <<USERS
user_id,password,is_superuser
bridge,$(cat "$secrets/mqtt_bridge.txt"),false
USERS
# No roles: the open-source edition has administrator alone, and refuses the rest of the
# file after a role that it does not know.
install_as "$secrets/api_keys.txt" <<KEYS
bridge:$(cat "$secrets/emqx_api_bridge.txt")
gate:$(cat "$secrets/emqx_api_gate.txt")
KEYS
install_as "$root/.env" 600 <<ENV
# Made by deploy/make-certs.sh; read by docker compose.
NATS_BRIDGE_PASSWORD=$(cat "$secrets/nats_bridge.txt")
NATS_INGEST_PASSWORD=$(cat "$secrets/nats_ingest.txt")
NATS_OPERATOR_PASSWORD=$(cat "$secrets/nats_operator.txt")
EMQX_NODE_COOKIE=$(cat "$secrets/emqx_cookie.txt")
EMQX_DASHBOARD_PASSWORD=$(cat "$secrets/emqx_dashboard.txt")
ENV

cat <<NEXT

Next: docker compose up --build, then publish as a device:
  mosquitto_pub -h localhost -p 8883 --cafile deploy/certs/ca.pem \\
    --cert deploy/certs/devices/acme_dev-1.pem --key deploy/certs/devices/acme_dev-1.key \\
    -q 1 -i dev-1 -t tenant/acme/device/dev-1/telemetry -m '{"temperature": 21.5}'
and look at what is stored:
  nats -s nats://localhost:4222 --user operator --password "\$(cat deploy/secrets/nats_operator.txt)" stream view TELEMETRY
NEXT
