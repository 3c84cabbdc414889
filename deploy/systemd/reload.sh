#!/bin/sh
# After a package was installed or removed. It starts nothing: the configuration comes first.
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
