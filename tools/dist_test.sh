#!/usr/bin/env bash
# Evaluate with several processes; see dist_run.sh for the environment.
if (($# < 3)); then
    echo "usage: dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" test.py "$3" "$1" "$2" "${@:4}"
