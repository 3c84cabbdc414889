#!/bin/sh
# Stand-in for the image of PostgreSQL: user, database and password from its variables.
set -eu
data=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
  chown postgres "$data"
  exec su postgres -s /bin/sh -c "$0"
fi
if [ ! -e "$data/PG_VERSION" ]; then
  initdb -D "$data" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" -A scram-sha-256 --no-locale -E UTF8 >/dev/null
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$data" postgres >/dev/null
fi
export TZ=UTC
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
