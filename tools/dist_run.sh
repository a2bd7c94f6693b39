#!/usr/bin/env bash
# Common part of dist_train.sh and dist_test.sh:
#   dist_run.sh SCRIPT PROCESSES [arguments of the script]
# Starts PROCESSES processes on this machine with torchrun: one per GPU, or with gloo
# on CPUs where PyTorch sees no GPU.
#
# Environment: PYTHON (default python). For several machines, on each of them: NNODES,
# NODE_RANK, MASTER_ADDR and PORT (default 29500). On one machine a free port is found
# unless PORT is set, so that jobs do not clash.
set -euo pipefail

SCRIPT=$1
PROCESSES=$2
shift 2
PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if ! [[ $PROCESSES =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS must be a positive number, got '$PROCESSES'" >&2
    exit 2
fi
DEVICES=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
if ((DEVICES > 0 && PROCESSES > DEVICES)); then
    echo "error: GPUS is $PROCESSES, but PyTorch sees $DEVICES CUDA device(s)" >&2
    exit 1
fi
if ((DEVICES == 0)); then
    echo "No CUDA device: $PROCESSES processes on the CPU" >&2
    CORES=$("$PYTHON" -c 'import os; print(len(os.sched_getaffinity(0)))')
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CORES > PROCESSES ? CORES / PROCESSES : 1))}
fi

if ((NNODES == 1)) && [[ -z ${PORT:-} ]]; then
    RENDEZVOUS=(--standalone)
else
    RENDEZVOUS=(
        --nnodes="$NNODES"
        --node-rank="${NODE_RANK:-0}"
        --master-addr="${MASTER_ADDR:-127.0.0.1}"
        --master-port="${PORT:-29500}"
    )
fi
exec "$PYTHON" -m torch.distributed.run "${RENDEZVOUS[@]}" \
    --nproc-per-node="$PROCESSES" "$TOOLS/$SCRIPT" "$@" --launcher pytorch
