#!/usr/bin/env bash
# Compares the API definitions with the version they branched from: the merge base with
# BASE (default origin/main) on a branch, the commit before on main itself. The base is
# unpacked into a scratch folder, so that shallow clones, moved folders and a
# branch that is merely behind give no false alarm.
set -euo pipefail
cd "$(dirname "$0")/.."

base_ref=${BASE:-origin/main}
if ! git rev-parse -q --verify "$base_ref^{commit}" >/dev/null; then
  if git remote get-url origin >/dev/null 2>&1; then
    git fetch -q --depth=200 origin "+refs/heads/${base_ref#origin/}:refs/remotes/$base_ref" || true
  fi
fi
if git rev-parse -q --verify "$base_ref^{commit}" >/dev/null; then
  base=$(git merge-base HEAD "$base_ref") || base=$(git rev-parse "$base_ref")
  [ "$base" != "$(git rev-parse HEAD)" ] || base=$(git rev-parse -q --verify HEAD~1 || echo "$base")
else
  base=$(git rev-parse -q --verify HEAD~1) || { echo "breaking: no earlier commit to compare with: skipped"; exit 0; }
fi
if [ -z "$(git ls-tree "$base" proto)" ]; then
  echo "breaking: $base has no API definitions: nothing to compare with"
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git archive "$base" proto | tar -x -C "$scratch"
cp buf.yaml "$scratch/"
mkdir -p "$scratch/.cache" && cp -r .cache/protovalidate "$scratch/.cache/"
.bin/buf breaking proto --against "$scratch/proto"
echo "breaking: the API definitions are compatible with $(git rev-parse --short "$base")"
