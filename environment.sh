# Sourced by quickstart.sh and run_tests.sh. After
#
#   use_environment requirements.txt          or: use_environment requirements-dev.txt 3.13
#
# `python` is 3.11 or newer (or the version named) and has the packages of that file.
# An active environment, of venv, uv or conda, is used as it is; nothing is installed into it. Otherwise this makes
# .venv beside this file (.venv-3.13 for a named version) and fills it once. When the requirements file changes, it
# installs what is missing.

GPYT_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

stop() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Echoes a command before it runs, bold on a terminal.
announce() {
    if [ -t 1 ]; then printf '\n\033[1m$ %s\033[0m\n' "$*"; else printf '\n$ %s\n' "$*"; fi
}

# Whether an interpreter runs and is Python 3.11 or newer, or exactly the version named: is_python COMMAND [3.13]
is_python() {
    "$1" - "${2:-}" 2> /dev/null << 'EOP'
import sys
wanted = sys.argv[1]
raise SystemExit(sys.version_info < (3, 11) or bool(wanted) and wanted != "%d.%d" % sys.version_info[:2])
EOP
}

# Prints the path of Python 3.11 or newer, or of the version named, from PATH or pyenv; fails where there is none.
python_of_version() {
    local name
    local names=(python3 python3.14 python3.13 python3.12 python3.11 python)
    [ -z "${1:-}" ] || names=("python$1" python3 "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$1".*/bin/python)
    for name in "${names[@]}"; do
        if command -v "$name" > /dev/null && is_python "$name" "${1:-}"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# Stops, with one line, where torch has no wheels.
check_platform() {
    [ "$(uname -s)" = Darwin ] || return 0
    [ "$(uname -m)" = arm64 ] ||
        stop "torch 2.13 has no wheels for Macs with Intel processors: use a Mac with Apple silicon, or Linux"
    local version
    version=$(sw_vers -productVersion)
    [ "${version%%.*}" -ge 14 ] || stop "torch 2.13 needs macOS 14 or newer, and this is $version: update macOS"
}

# Prints the packages that the requirements file pins and `python` lacks, with -r lines followed.
missing_packages() {
    python - "$1" << 'EOP'
import importlib.metadata
import pathlib
import sys

def pins(path: pathlib.Path) -> list[str]:
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    included = [pin for line in lines if line.startswith("-r ") for pin in pins(path.parent / line[3:].strip())]
    return included + [line for line in lines if line and not line.startswith("-r ")]

def is_missing(pin: str) -> bool:
    pin, _, marker = pin.partition(";")  # pins of one system alone: ; sys_platform == "linux"
    if marker and marker.partition("==")[2].strip(' "') != sys.platform:
        return False
    name, _, version = pin.partition("==")
    try:
        return importlib.metadata.version(name).split("+")[0] != version
    except importlib.metadata.PackageNotFoundError:
        return True

print(" ".join(pin.partition(";")[0] for pin in pins(pathlib.Path(sys.argv[1])) if is_missing(pin)))
EOP
}

# The environment that the user has activated, '' where there is none. Conda's base is active in every shell of many
# users and holds other things: it does not count.
active_environment() {
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        printf '%s' "$VIRTUAL_ENV"
    elif [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
        printf '%s' "$CONDA_PREFIX"
    fi
}

# Prints the command that installs packages into `python`'s environment: pip, or uv where uv made it without pip.
installer() {
    if python -m pip --version > /dev/null 2>&1; then
        printf 'python -m pip install'
    elif command -v uv > /dev/null; then
        printf 'uv pip install --python %q' "$(command -v python)"
    else
        return 1
    fi
}

# Makes the environment in the folder, or mends one whose creation was cut off. One that runs is never cleared: it may
# hold what somebody put there, and uv, poetry and pdm leave pip out.
make_environment() {
    local folder=$1 version=${2:-} base
    if is_python "$folder/bin/python" "$version"; then
        "$folder/bin/python" -m pip --version > /dev/null 2>&1 && return
        command -v uv > /dev/null && return # it needs no pip
        "$folder/bin/python" -m ensurepip --default-pip > /dev/null 2>&1 && return
        stop "the virtual environment $folder has no pip: install uv, or remove the folder, and run this again"
    fi
    base=$(python_of_version "$version") ||
        stop "no Python ${version:-3.11 or newer} was found: install it (python.org, your package manager," \
            "uv python install ${version:-3.13}) and run this again"
    if [ -e "$folder" ]; then
        echo "the virtual environment $folder is incomplete: making it again ($("$base" --version))"
    else
        echo "making the virtual environment $folder ($("$base" --version))"
    fi
    "$base" -m venv --clear "$folder" || stop "$base cannot make a virtual environment: install its venv module" \
        "(Debian, Ubuntu: apt install python3-venv) and run this again"
}

# Whether the torch that pip would install brings NVIDIA's libraries along: brings_cuda PIN [pip's options]
brings_cuda() {
    python -m pip install --quiet --dry-run --ignore-installed --no-deps --report - "$@" 2> /dev/null |
        python -c 'import json, sys
needed = json.load(sys.stdin)["install"][0]["metadata"].get("requires_dist", [])
raise SystemExit(not any(package.startswith(("nvidia-", "cuda-")) for package in needed))' 2> /dev/null
}

# Installs torch's CPU build where Linux has no NVIDIA GPU; says what is coming where only the CUDA build is offered.
install_torch() {
    local pin=$1
    [ "$(uname -s)" = Linux ] || return 0
    [ -z "$(compgen -G '/dev/nvidia[0-9]*')" ] && [ ! -e /dev/nvidiactl ] || return 0
    python -m pip --version > /dev/null 2>&1 || return 0
    brings_cuda "$pin" || return 0
    if python -m pip install --quiet --disable-pip-version-check --retries 0 --timeout 10 \
        --index-url "$TORCH_CPU_INDEX" "$pin" 2> /dev/null; then
        echo "installed the CPU build of torch: this machine has no NVIDIA GPU"
        return
    fi
    echo "note: torch's CPU build is not to be had here ($TORCH_CPU_INDEX): its CUDA build follows," \
        "which takes 5.6 GB of disk and some 4 minutes"
}

use_environment() {
    local requirements=$GPYT_HOME/$1 version=${2:-} active missing install folder
    check_platform
    active=$(active_environment)
    if [ -n "$active" ] && [ -z "$version" ]; then
        export PATH=$active/bin:$PATH
        is_python python || stop "the active environment $active has no Python 3.11 or newer:" \
            "run deactivate (conda deactivate) first, and this makes one of its own"
        missing=$(missing_packages "$requirements")
        install=$(installer) || install="uv pip install --python $active/bin/python"
        [ -z "$missing" ] || stop "the active environment $active lacks $missing:" \
            "run: $install -r $requirements, or run deactivate (conda deactivate) first"
        return
    fi
    folder=$GPYT_HOME/.venv${version:+-$version}
    make_environment "$folder" "$version"
    export VIRTUAL_ENV=$folder PATH=$folder/bin:$PATH
    missing=$(missing_packages "$requirements")
    if [ -n "$missing" ]; then
        echo "installing $(wc -w <<< "$missing" | tr -d ' ') packages of $1 (one to four minutes)"
        case " $missing " in *" torch=="*) install_torch "$(tr ' ' '\n' <<< "$missing" | grep '^torch==')" ;; esac
        install=$(installer)
        case $install in python*) install="$install --quiet --disable-pip-version-check" ;; *) install="$install --quiet" ;; esac
        $install -r "$requirements" || stop "the installation failed: see above, then run this again"
    fi
}
