#!/usr/bin/env bash
# Makes .venv: gets uv if it is missing, finds a Python >= 3.12, installs the project with its development tools.
#   setup.sh             make the environment
#   setup.sh --uv ARGS   run uv with ARGS
set -euo pipefail
cd "$(dirname "$0")/.."

any_python() {
    command -v python3 || command -v python || { echo "setup: no python found" >&2; exit 1; }
}

find_uv() {
    if command -v uv; then return; fi
    if [ ! -x .uv/bin/uv ]; then
        echo "setup: uv is missing, installing it into .uv" >&2
        "$(any_python)" -m pip install --quiet --disable-pip-version-check --target .uv uv >&2
    fi
    echo "$PWD/.uv/bin/uv"
}

# Also the versions that pyenv has but does not put first on PATH.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.12 python3.13 python3 python \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    # uv knows more places, and can download one where it may.
    "$UV" python find '>=3.12,<3.14' 2>/dev/null || echo 3.12
}

UV="$(find_uv)"
if [ "${1:-}" = "--uv" ]; then
    shift
    exec "$UV" "$@"
fi
PYTHON_FOUND="$(find_python)"
# Where Python keeps no compiled modules (many containers), each start of a
# command would compile all it imports anew: 15 s of CPU time instead of 5.
COMPILE=()
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then COMPILE=(--compile-bytecode); fi
echo "setup: installing into .venv with $("$UV" --version | cut -d' ' -f1-2), python $PYTHON_FOUND" >&2
"$UV" sync --quiet --python "$PYTHON_FOUND" ${COMPILE[@]+"${COMPILE[@]}"} ||
    { echo "setup: failed; a Python >= 3.12 and access to a package index are needed (PYTHON=/path/to/python3.12 make setup)" >&2; exit 1; }
