#!/usr/bin/env bash
# The environment, lint, types and tests, in one command:
#
#   bash run_tests.sh            under 10 minutes on 2 cores
#   bash run_tests.sh --full     the long sweeps too: every file of the standard library and of the installed packages
#   bash run_tests.sh -k comments    anything else goes to pytest
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case "${1:-}" in
    -h | --help)
        sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac

use_environment requirements-dev.txt
cd "$GPYT_HOME"

step() {
    announce "$*"
    "$@"
}

step ruff check .
step ruff format --check .
step mypy data_collector preprocess model tests benchmarks
step python -m pytest -n 2 --dist loadfile "$@"
