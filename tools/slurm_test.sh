#!/usr/bin/env bash
# Evaluate on a Slurm cluster; see slurm_run.sh for the environment.
if (($# < 4)); then
    echo "usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh" "$1" "$2" test.py "${@:3}"
