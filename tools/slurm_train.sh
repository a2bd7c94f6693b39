#!/usr/bin/env bash
# Train on a Slurm cluster; see slurm_run.sh for the environment.
if (($# < 3)); then
    echo "usage: slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh" "$1" "$2" train.py "${@:3}"
