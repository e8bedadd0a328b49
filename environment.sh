# Sourced by quickstart.sh and run_tests.sh. After
#
#   use_environment requirements.txt
#
# `python` is 3.11 or newer and has the packages of that file.
# An active virtual environment is used as it is: nothing is installed into it. Otherwise .venv beside this file is
# made and filled once; a changed requirements file is installed again.

GPYT_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

stop() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Echoes a command before it runs, bold on a terminal.
announce() {
    if [ -t 1 ]; then printf '\n\033[1m$ %s\033[0m\n' "$*"; else printf '\n$ %s\n' "$*"; fi
}

# The first of the usual names that is Python 3.11 or newer.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if command -v "$name" > /dev/null && "$name" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))'; then
            command -v "$name"
            return
        fi
    done
    stop "no Python 3.11 or newer was found: install one (python.org, your package manager) and run this again"
}

# Prints the packages that the requirements file pins and `python` lacks, with -r lines followed.
missing_packages() {
    python - "$1" << 'EOF'
import importlib.metadata
import pathlib
import sys

def pins(path: pathlib.Path) -> list[str]:
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    included = [pin for line in lines if line.startswith("-r ") for pin in pins(path.parent / line[3:].strip())]
    return included + [line for line in lines if line and not line.startswith("-r ")]

def is_missing(pin: str) -> bool:
    name, _, version = pin.partition("==")
    try:
        return importlib.metadata.version(name).split("+")[0] != version
    except importlib.metadata.PackageNotFoundError:
        return True

print(" ".join(pin for pin in pins(pathlib.Path(sys.argv[1])) if is_missing(pin)))
EOF
}

use_environment() {
    local requirements=$GPYT_HOME/$1 missing
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        export PATH=$VIRTUAL_ENV/bin:$PATH
        missing=$(missing_packages "$requirements")
        [ -z "$missing" ] || stop "the active virtual environment $VIRTUAL_ENV lacks $missing:" \
            "run: python -m pip install -r $requirements, or run deactivate first"
        return
    fi
    local folder=$GPYT_HOME/.venv base
    if [ ! -x "$folder/bin/python" ]; then
        base=$(find_python) || exit 1
        echo "making the virtual environment $folder ($("$base" --version))"
        "$base" -m venv "$folder" || stop "$base cannot make a virtual environment: install its venv module" \
            "(Debian, Ubuntu: apt install python3-venv) and run this again"
    fi
    export VIRTUAL_ENV=$folder PATH=$folder/bin:$PATH
    missing=$(missing_packages "$requirements")
    if [ -n "$missing" ]; then
        echo "installing $(wc -w <<< "$missing") packages of $1 (about a minute on a fast line)"
        python -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
            stop "the installation failed: see above, then run this again"
    fi
}
