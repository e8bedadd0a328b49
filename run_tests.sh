#!/usr/bin/env bash
# The environment, lint, types and tests, in one command:
#
#   bash run_tests.sh                  some 15 minutes on 2 cores
#   bash run_tests.sh --full           the long sweeps too: every file of the standard library and of the packages
#   bash run_tests.sh -k comments      anything else goes to pytest
#   bash run_tests.sh --python 3.13    the tests on another Python, in an environment of their own (.venv-3.13)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

version=
case "${1:-}" in
    -h | --help)
        sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    --python)
        [[ "${2:-}" =~ ^3\.[0-9]+$ ]] || { echo "error: --python needs a version: bash run_tests.sh --python 3.13" >&2; exit 2; }
        version=$2
        shift 2
        ;;
esac

use_environment requirements-dev.txt "$version"
cd "$GPYT_HOME"

step() {
    announce "$*"
    "$@"
}

if [ -z "$version" ]; then # style and types do not depend on the interpreter that checks them
    step ruff check .
    step ruff format --check .
    step mypy data_collector preprocess model tests benchmarks
fi
# Nothing here waits for ever. A worker that dies ends the run: with a new one in its place, the scheduler has waited for
# ever (pytest-xdist issue 1378). faulthandler ends a test that hangs in C, where the alarm of pytest-timeout cannot
# reach it; timeout, of coreutils, ends what hangs outside of a test.
minutes=${TEST_MINUTES:-60} stuck=600
case " $* " in *" --full "*) minutes=${TEST_MINUTES:-720} stuck=4000 ;; esac
limit=(timeout --foreground --kill-after=30 "${minutes}m")
command -v timeout > /dev/null || limit=() # a Mac without coreutils
code=0
step ${limit[@]+"${limit[@]}"} python -m pytest -n 2 --dist loadfile --max-worker-restart 0 \
    -o faulthandler_timeout=$stuck -o faulthandler_exit_on_timeout=true "$@" || code=$?
case $code in 124 | 137) stop "the tests did not end within $minutes minutes: see above which ran last," \
    "or allow a slow machine more: TEST_MINUTES=$((${minutes%.*} * 2)) bash run_tests.sh" ;; esac
exit $code
