#!/usr/bin/env bash
# The lock's versions into $VIRTUAL_ENV, with PyTorch from the index that is given; then the kit, marked as installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m venv "$VIRTUAL_ENV"
pins="$(mktemp)"
sed -nE 's/^([a-z0-9._-]+==[^ ]+( ;[^\\]*)?).*/\1/p' requirements.lock | grep -vE '^(nvidia-|cuda-|triton)' > "$pins"
"$VIRTUAL_ENV/bin/pip" install --quiet $(grep -E '^(torch|torchvision)==' "$pins") --index-url "$1" --extra-index-url https://pypi.org/simple
"$VIRTUAL_ENV/bin/pip" install --quiet -r "$pins"
"$VIRTUAL_ENV/bin/pip" install --quiet --no-deps -e '.[reproduction]'
echo "$(cat requirements.lock pyproject.toml | cksum) $PWD" > "$VIRTUAL_ENV/.reid-core-installed"
