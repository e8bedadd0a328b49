#!/usr/bin/env bash
# What of GPyT runs on an NVIDIA GPU, and how fast: every path once, in 8 minutes, and a table for benchmarks/LOG.md:
#
#   bash benchmarks/gpu_check.sh                     one NVIDIA GPU; the table also goes to gpu_check.md
#   bash benchmarks/gpu_check.sh --only generate     the steps with this in their names
#   bash benchmarks/gpu_check.sh --device cpu        the same steps, tiny, to try the script itself
#   bash benchmarks/gpu_check.sh --python python3    an environment as it is, whatever versions it has
#
# Without --python it takes the active environment, or makes .venv as quickstart.sh does; the 8 minutes begin
# after that. gpu_check.py --help has all options. Exit codes: 0 all passed, 1 something failed, 3 something was
# left out, because a package is missing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"

python= arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --python)
            [ -n "${2:-}" ] || { echo "error: --python needs an interpreter: --python python3" >&2; exit 2; }
            python=$2
            shift 2
            ;;
        *)
            arguments+=("$1")
            shift
            ;;
    esac
done

if [ -z "$python" ]; then
    use_environment requirements.txt
    python=python
fi
python=$(command -v "$python") || stop "there is no such interpreter: give --python a command or a path"
exec "$python" "$GPYT_HOME/benchmarks/gpu_check.py" --python "$python" ${arguments[@]+"${arguments[@]}"}
