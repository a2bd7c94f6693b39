#!/usr/bin/env bash
# Train with several processes; see dist_run.sh for the environment.
if (($# < 2)); then
    echo "usage: dist_train.sh CONFIG GPUS [arguments of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" train.py "$2" "$1" "${@:3}"
