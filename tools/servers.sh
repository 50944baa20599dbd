#!/usr/bin/env bash
# Makes sure that tests find PostgreSQL and Redis (local binaries, or Docker for testcontainers), and the
# tools that test alerts (built by make stack, or the system's). Installs Debian's packages when it may
# (root and apt-get); says what to do otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null; }
has_redis() { command -v redis-server >/dev/null; }
has_docker() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }
has_tool() { [ -x ".bin/$1" ] || command -v "$1" >/dev/null; }

servers=()
has_postgres || servers+=(postgresql)
has_redis || servers+=(redis-server)
if [ ${#servers[@]} -gt 0 ] && has_docker; then servers=(); fi
tools=()
has_tool promtool || tools+=(prometheus)
has_tool amtool || tools+=(prometheus-alertmanager)
has_tool postgres_exporter || has_tool prometheus-postgres-exporter || tools+=(prometheus-postgres-exporter)
missing=(${servers[@]+"${servers[@]}"} ${tools[@]+"${tools[@]}"}) # bash 3 of macOS takes an empty list for unset
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} ..."
  # Packaged servers must not start on their fixed ports: tests run private ones.
  printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.d.$$ && chmod +x /tmp/policy-rc.d.$$
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    cp /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  rm -f /tmp/policy-rc.d.$$
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  exit 0
fi

echo "Tests that need these will be skipped and listed." >&2
if [ ${#servers[@]} -gt 0 ]; then
  echo "not found: ${servers[*]} and no Docker engine answers. Install them with one of:" >&2
  echo "  Debian/Ubuntu: sudo apt-get install ${servers[*]}" >&2
  echo "  macOS:         brew install postgresql@16 redis" >&2
  echo "  or start Docker." >&2
fi
if [ ${#tools[@]} -gt 0 ]; then
  echo "not found, for tests of alerts: ${tools[*]}. Get them with one of:" >&2
  echo "  make stack ARGS=\"prometheus alertmanager postgres_exporter\"" >&2
  echo "  Debian/Ubuntu: sudo apt-get install ${tools[*]}" >&2
  echo "  macOS:         brew install prometheus alertmanager postgres_exporter" >&2
fi
