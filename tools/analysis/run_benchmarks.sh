#!/usr/bin/env bash
# Measure all that docs/benchmarks.md and the memory table of docs/dense.md show, then
# write their tables and the plot. Run it from the root of the checkout on an otherwise
# idle machine.
#
#   tools/analysis/run_benchmarks.sh cpu     naive takes gigabytes and half a minute an image
#   tools/analysis/run_benchmarks.sh gpu
#   tools/analysis/run_benchmarks.sh report  sizes of the models, the tables and the plot
set -uo pipefail

PYTHON=${PYTHON:-python}
TOOLS=tools/analysis
RESULTS=docs/results
TINY=cluenet/cls_imagenet_tiny.py
POOLFORMER=mmpretrain::poolformer/poolformer-s12_32xb128_in1k.py
SIDES=(--impl naive --vs auto)
failed=0

measure() { # NAME ARGUMENTS...: a case that fails does not end the others
  local name=$1
  shift
  echo "== $name"
  "$PYTHON" $TOOLS/benchmark.py "$@" --json "$RESULTS/$name.json" || failed=1
}

shapes() { for side in "$@"; do echo "--shape ${side/x/ }"; done; }

cpu() {
  local cpu=(--device cpu)
  measure cpu_224 $TINY "${SIDES[@]}" "${cpu[@]}" --batch 8 --mode infer train
  measure cpu_poolformer $POOLFORMER --vs-config $TINY "${cpu[@]}" --batch 8
  measure cpu_512 $TINY "${SIDES[@]}" "${cpu[@]}" --shape 512 512 --mode train
  measure cpu_512_cp $TINY "${SIDES[@]}" "${cpu[@]}" --shape 512 512 --mode train \
    --with-cp
  for family in fec/cls_imagenet_small coc/cls_imagenet_tiny; do
    measure cpu_224_${family%%/*} $family "${SIDES[@]}" "${cpu[@]}" --batch 8 \
      --mode infer train
  done
  echo "== cpu_memory"
  "$PYTHON" $TOOLS/train_memory.py cluenet/mask_rcnn_coco_tiny "${cpu[@]}" \
    --shape 800 1344 --impl naive auto --json $RESULTS/cpu_memory.json || failed=1
  # shellcheck disable=SC2046 # the words are arguments of their own
  measure cpu_scaling $TINY "${SIDES[@]}" "${cpu[@]}" --rounds 3 \
    $(shapes 224x224 320x320 512x512 768x768 1024x1024 800x1344)
}

gpu() {
  local gpu=(--device cuda --amp)
  measure gpu_224 $TINY "${SIDES[@]}" "${gpu[@]}" --batch 128 --mode infer train
  measure gpu_largest_batch $TINY "${SIDES[@]}" "${gpu[@]}" --batch max \
    --shape 800 1344 --mode train --rounds 3
  # shellcheck disable=SC2046
  measure gpu_scaling $TINY "${SIDES[@]}" "${gpu[@]}" \
    $(shapes 224x224 320x320 512x512 768x768 1024x1024 800x1344)
}

report() {
  "$PYTHON" $TOOLS/get_flops.py configs/*/cls_*.py --json $RESULTS/models.json \
    > /dev/null || failed=1
  "$PYTHON" $TOOLS/fill_tables.py $RESULTS docs/{benchmarks,dense,results}.md \
    configs/*/README.md || failed=1
  for device in cpu gpu; do
    [ ! -f $RESULTS/${device}_scaling.json ] || "$PYTHON" $TOOLS/plot_scaling.py \
      $RESULTS/${device}_scaling.json --out docs/images/scaling_$device.png || failed=1
  done
}

case "${1:-}" in
  cpu | gpu) "$1" && report ;;
  report) report ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
exit $failed
