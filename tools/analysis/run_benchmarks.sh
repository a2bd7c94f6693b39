#!/usr/bin/env bash
# Measure all that docs/benchmarks.md and the memory table of docs/dense.md show, then
# write their tables and plots. Run it from the root of the checkout on an otherwise idle
# machine.
#
#   tools/analysis/run_benchmarks.sh cpu           all: naive takes gigabytes
#   tools/analysis/run_benchmarks.sh gpu
#   tools/analysis/run_benchmarks.sh cpu_families  one part by name, or several
#   tools/analysis/run_benchmarks.sh report        sizes of the models, tables and plots
set -uo pipefail

PYTHON=${PYTHON:-python}
TOOLS=tools/analysis
RESULTS=docs/results
TINY=cluenet/cls_imagenet_tiny.py
FAMILIES=(coc/cls_imagenet_tiny fec/cls_imagenet_small clusterformer/cls_imagenet_tiny)
OTHERS=(mmpretrain::resnet/resnet18_8xb32_in1k.py
  mmpretrain::poolformer/poolformer-s12_32xb128_in1k.py
  mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py
  mmpretrain::convnext/convnext-tiny_32xb128_in1k.py)
SIDES=(--impl naive --vs auto)
names=" "
asked=" "
failed=0

part() { # NAME SCRIPT ARGUMENTS...: a part that fails does not end the others
  local name=$1 script=$2
  shift 2
  names+="$name "
  [[ $asked == *" $name "* || $asked == *" ${name%%_*} "* ]] || return 0
  echo "== $name"
  "$PYTHON" "$TOOLS/$script" "$@" --json "$RESULTS/$name.json" || failed=1
}

measure() { # NAME ARGUMENTS...
  local name=$1
  shift
  part "$name" benchmark.py "$@"
}

families() { # DEVICE ARGUMENTS...: all at one size, in one run
  local name=$1_families
  shift
  measure "$name" $TINY --vs-config "${FAMILIES[@]}" "${OTHERS[@]}" "$@" \
    --mode infer train
}

shapes() { for side in "$@"; do echo "--shape ${side/x/ }"; done; }

cpu() {
  local cpu=(--device cpu)
  families cpu "${cpu[@]}" --batch 8
  measure cpu_224 $TINY "${SIDES[@]}" "${cpu[@]}" --batch 8 --mode infer train
  measure cpu_512 $TINY "${SIDES[@]}" "${cpu[@]}" --shape 512 512 --mode train
  measure cpu_512_cp $TINY "${SIDES[@]}" "${cpu[@]}" --shape 512 512 --mode train \
    --with-cp
  for family in "${FAMILIES[@]}"; do
    measure "cpu_224_${family%%/*}" "$family" "${SIDES[@]}" "${cpu[@]}" --batch 8 \
      --mode infer train
  done
  part cpu_memory train_memory.py cluenet/mask_rcnn_coco_tiny "${cpu[@]}" \
    --shape 800 1344 --impl naive auto
  # shellcheck disable=SC2046 # the words are arguments of their own
  measure cpu_scaling $TINY "${SIDES[@]}" "${cpu[@]}" --rounds 1 \
    $(shapes 224x224 320x320 512x512 768x768 1024x1024 800x1344)
}

gpu() {
  local gpu=(--device cuda --amp)
  families gpu "${gpu[@]}" --batch 128
  measure gpu_224 $TINY "${SIDES[@]}" "${gpu[@]}" --batch 128 --mode infer train
  measure gpu_largest_batch $TINY "${SIDES[@]}" "${gpu[@]}" --batch max \
    --shape 800 1344 --mode train --rounds 1
  # shellcheck disable=SC2046
  measure gpu_scaling $TINY "${SIDES[@]}" "${gpu[@]}" \
    $(shapes 224x224 320x320 512x512 768x768 1024x1024 800x1344)
}

report() {
  "$PYTHON" $TOOLS/get_flops.py configs/*/cls_*.py --json $RESULTS/models.json \
    > /dev/null || failed=1
  "$PYTHON" $TOOLS/fill_tables.py $RESULTS docs/*.md configs/*/README.md || failed=1
  local kind device
  for kind in scaling families; do
    for device in cpu gpu; do
      [ ! -f $RESULTS/${device}_$kind.json ] || "$PYTHON" $TOOLS/plot_$kind.py \
        $RESULTS/${device}_$kind.json --out docs/images/${kind}_$device.png || failed=1
    done
  done
}

cpu && gpu # nothing is asked yet: collects the names
for word in "${@:-}"; do
  if [[ -z $word || " cpu gpu report$names" != *" $word "* ]]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    echo "parts:$names" | fold -sw 88 >&2
    exit 2
  fi
done
asked=" $* "
cpu && gpu
report
exit $failed
