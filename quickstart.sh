#!/usr/bin/env bash
# From nothing to Python code written by a model that was trained on this machine, in one command:
#
#   bash quickstart.sh                 the six stages on the Python code of this machine
#   bash quickstart.sh --minutes 30    train for longer
#   bash quickstart.sh --max-mb 10     collect less
#
# Needs Python 3.11 or newer and git. It needs no token, no account, and once the packages are installed no network.
# Reads the standard library and the installed packages; writes repos/, data.txt, tokenizer/ and GPyT/ in the
# current directory. Run it again: it continues where it was and repeats nothing that is finished.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

minutes=4 budget=() training=(--minutes 4) # as this script says below; train.py alone takes longer on a GPU
max_mb=40 collecting=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --minutes | --max-mb)
            [[ "${2:-}" =~ ^[0-9]+(\.[0-9]+)?$ ]] || { echo "error: $1 needs a number: bash quickstart.sh $1 4" >&2; exit 2; }
            if [ "$1" = --minutes ]; then
                minutes=$2 budget=(--for-minutes "$2") training=(--minutes "$2")
            else
                max_mb=$2 collecting=(--max-mb "$2")
            fi
            shift 2
            ;;
        *)
            echo "error: unknown option $1: see bash quickstart.sh --help" >&2
            exit 2
            ;;
    esac
done

# .quickstart marks a folder whose contents an earlier run of this script made.
if [ ! -e .quickstart ]; then
    for output in repos data.txt data.ledger.jsonl data.summary.json tokenizer GPyT; do
        if [ -e "$output" ] || [ -L "$output" ]; then
            stop "$PWD/$output is already there and this script did not make it:" \
                "run it in an empty directory, e.g. mkdir ~/gpyt && cd ~/gpyt && bash $GPYT_HOME/quickstart.sh"
        fi
    done
fi
[ -w . ] || stop "$PWD is not writable: run this in a directory of your own"

cat << EOF
GPyT: a model of Python code, trained from scratch on this machine

  reads   the Python source on this machine: the standard library and the installed packages, $max_mb MB
  writes  repos/, data.txt, tokenizer/ and GPyT/ in $PWD
  takes   $minutes minutes of training, 2 for the other stages and 1 for the packages: 7 minutes in all by default
  needs   2 GB of disk (6 GB with an NVIDIA GPU, for torch's CUDA build) and 4 GB of free memory

EOF
use_environment requirements.txt
: > .quickstart

# In the project's folder the commands are those of the README; elsewhere the project's path stands before each script.
scripts=
[ "$PWD" -ef "$GPYT_HOME" ] || scripts=$GPYT_HOME/

stage() {
    announce "python $(printf '%q ' "$@" | sed 's/ $//')"
    python "$@" || {
        code=$?
        [ $code -ne 3 ] || return 0 # finished; what is missing is named above
        [ $code -ne 130 ] || echo "interrupted: run the same command again to continue from here" >&2
        exit $code
    }
}

# ${array[@]+...}: bash 3.2, which macOS has, takes an empty array for an unset one.
stage "${scripts}data_collector/data_collector.py" --local ${collecting[@]+"${collecting[@]}"}
stage "${scripts}preprocess/data_cleaner.py"
stage "${scripts}preprocess/data_preprocess.py"
stage "${scripts}preprocess/tokenizer.py" -t ${budget[@]+"${budget[@]}"}
stage "${scripts}model/train.py" ${training[@]+"${training[@]}"}

# The last line of its table: the model's bits per byte beside those of the best compressor on the same files.
announce "python ${scripts}model/evaluate.py --parts read"
headline=$(python "${scripts}model/evaluate.py" --parts read | tail -n 1) || {
    code=$?
    if [ $code -eq 130 ]; then
        echo "interrupted: run the same command again to continue from here" >&2
        exit $code
    fi
    [ $code -eq 3 ] || headline= # the model can be used all the same; what was wrong stands above
}
# A beginning as it stands in many of the files that the model has learnt from
stage "${scripts}model/code_generator.py" --best --samples 16 --max-new-tokens 64 --temperature 0.6 --seed 7 \
    --prompt $'class Stack:\n    """A stack of items."""\n\n    def __init__(self, items):\n'

minutes_taken=$(((SECONDS + 30) / 60))
cat << EOF

What follows the prompt's four lines is the best of 16 samples of the model in $PWD/GPyT, trained just now.
All of it took $minutes_taken min.
${headline:+On code that it has not learnt from: $headline
Where its bits go, and a file token by token: $PWD/GPyT/scores.html
}Its figures are in GPyT/README.md, its learning curve in GPyT/loss.png.

Next, write with it:
  ${VIRTUAL_ENV:+$([ "$VIRTUAL_ENV" = "$GPYT_HOME/.venv" ] && echo ". $VIRTUAL_ENV/bin/activate && ")}python ${scripts}model/code_generator.py
EOF
