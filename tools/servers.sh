#!/usr/bin/env bash
# Makes sure that tests find PostgreSQL and Redis: local binaries, or Docker for testcontainers.
# Installs Debian's packages when it may (root and apt-get); says what to do otherwise.
set -euo pipefail

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null; }
has_redis() { command -v redis-server >/dev/null; }
has_docker() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

missing=()
has_postgres || missing+=(postgresql)
has_redis || missing+=(redis-server)
if [ ${#missing[@]} -eq 0 ] || has_docker; then exit 0; fi

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

echo "not found: ${missing[*]} and no Docker engine answers." >&2
echo "Tests that need them will be skipped and listed. Install them with one of:" >&2
echo "  Debian/Ubuntu: sudo apt-get install ${missing[*]}" >&2
echo "  macOS:         brew install postgresql@16 redis" >&2
echo "  or start Docker." >&2
