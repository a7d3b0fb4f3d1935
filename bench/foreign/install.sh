#!/usr/bin/env bash
# Installs what stands beside the library in `go run ./bench -only processes`: Python with joblib (loky
# is in it) and pebble, and Node with piscina and workerpool. It needs a Debian system, root for
# what is not there yet, and leaves alone what is.
#
#	bench/foreign/install.sh
#	bench/foreign/install.sh cluster
#
# The second installs what stands beside it in `-only cluster` instead: the servers of Redis and PostgreSQL.
# Debian may start them as services, which the bench does not use: it starts its own.
#
# The npm packages go to node_modules beside this file, or to the folder that BENCH_NODE_MODULES names,
# which is to be set for `go run ./bench` too and is called node_modules.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
modules=${BENCH_NODE_MODULES:-$here/node_modules}
if [ "$(basename "$modules")" != node_modules ]; then
  echo "BENCH_NODE_MODULES is $modules: its last part must be node_modules" >&2
  exit 1
fi

if [ "${1:-}" = cluster ]; then
  wanted=()
  command -v redis-server >/dev/null || wanted+=(redis-server)
  command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || wanted+=(postgresql)
  if [ ${#wanted[@]} -gt 0 ]; then
    apt-get update -q
    apt-get install -qy --no-install-recommends "${wanted[@]}"
  fi
  exit
fi

wanted=()
/usr/bin/python3 -c 'import joblib' 2>/dev/null || wanted+=(python3-joblib)
/usr/bin/python3 -c 'import pebble' 2>/dev/null || wanted+=(python3-pebble)
# A Node from elsewhere brings its own npm, which Debian's package would break.
command -v node >/dev/null || wanted+=(nodejs)
command -v npm >/dev/null || wanted+=(npm)
if [ ${#wanted[@]} -gt 0 ]; then
  apt-get update -q
  apt-get install -qy --no-install-recommends "${wanted[@]}"
fi

# piscina 5 needs Node 20; Debian 12 has 18.
piscina=5.3.2
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
  piscina=4.9.4
fi
npm install --prefix "$(dirname "$modules")" --no-save --no-package-lock --no-audit --no-fund "piscina@$piscina" workerpool@10.0.3
