#!/usr/bin/env bash
# Common part of slurm_train.sh and slurm_test.sh:
#   slurm_run.sh PARTITION JOB_NAME SCRIPT [arguments of the script]
# One task per GPU.
#
# Environment: PYTHON (default python), GPUS in all (8), GPUS_PER_NODE (8, or GPUS where
# that is less), CPUS_PER_TASK (5), SRUN_ARGS with further options of srun, and
# MASTER_PORT (29500) for two jobs that share a node.
set -euo pipefail

PARTITION=$1
JOB_NAME=$2
SCRIPT=$3
shift 3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if ! command -v srun >/dev/null; then
    echo "error: srun is not on the PATH; without Slurm use dist_train.sh or dist_test.sh" >&2
    exit 1
fi
# SRUN_ARGS holds several words.
# shellcheck disable=SC2086
exec srun --partition="$PARTITION" \
    --job-name="$JOB_NAME" \
    --gres=gpu:"$GPUS_PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$TOOLS/$SCRIPT" "$@" --launcher slurm
