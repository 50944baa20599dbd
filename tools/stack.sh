#!/usr/bin/env bash
# Builds the programs of the observability stack into .bin/: one pinned module each under tools/.
# A program whose module, main and compiler are unchanged is left as it is. One that does not
# build stops none of the others; the exit code is 1 then.
# usage: tools/stack.sh [otelcol|prometheus|alertmanager|postgres_exporter|loki|tempo ...]
# Without names: all, in the order of what they are worth for their cost.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p .bin/.keys .cache

# build FOLDER FLAGS PACKAGE...: each package becomes the program of its last element.
build() {
  local folder=tools/$1 flags=$2 name=$1 key started=$SECONDS package out programs=()
  shift 2
  for package in "$@"; do
    [ "$package" = . ] && programs+=("$name") || programs+=("${package##*/}")
  done
  key=$(cat "$folder"/*.go "$folder"/go.mod "$folder"/go.sum 2>/dev/null | sha256sum | cut -c1-16)-$(go env GOVERSION GOOS GOARCH | tr '\n' '-')$flags
  if [ "$(cat ".bin/.keys/$name" 2>/dev/null)" = "$key" ] && (cd .bin && ls "${programs[@]}" >/dev/null 2>&1); then
    return 0
  fi
  echo "building ${programs[*]} ... (output: .cache/stack-$name.log)"
  for package in "$@"; do
    [ "$package" = . ] && out=$name || out=${package##*/}
    # A program that runs cannot be written to, but its name can be given to another.
    # shellcheck disable=SC2086 # flags are words
    if ! (cd "$folder" && CGO_ENABLED=0 nice -n 19 go build -trimpath $flags -o "../../.bin/.$out.new" "$package") >".cache/stack-$name.log" 2>&1; then
      tail -n 20 ".cache/stack-$name.log" >&2
      echo "$out does not build" >&2
      return 1
    fi
    mv -f ".bin/.$out.new" ".bin/$out"
  done
  echo "$key" >".bin/.keys/$name"
  echo "built ${programs[*]} in $((SECONDS - started)) s"
}

failed=0
[ $# -gt 0 ] || set -- otelcol prometheus alertmanager postgres_exporter loki tempo
for component in "$@"; do
  case $component in
  otelcol) build otelcol "-ldflags=-s" . ;;
  # The service discoveries are left out: files name the targets.
  prometheus) build prometheus "-tags=remove_all_sd -ldflags=-s" github.com/prometheus/prometheus/cmd/{prometheus,promtool} ;;
  alertmanager) build alertmanager "-ldflags=-s" github.com/prometheus/alertmanager/cmd/{alertmanager,amtool} ;;
  postgres_exporter) build postgres-exporter "-ldflags=-s" github.com/prometheus-community/postgres_exporter/cmd/postgres_exporter ;;
  loki) build loki "-ldflags=-s" github.com/grafana/loki/v3/cmd/loki ;;
  # parquet-go reaches into the runtime unless told not to.
  tempo) build tempo "-tags=purego -ldflags=-s" . ;;
  *) echo "no component $component" >&2; exit 2 ;;
  esac || failed=1
done
exit $failed
