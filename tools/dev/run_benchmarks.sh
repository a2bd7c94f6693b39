#!/usr/bin/env bash
# Measure all that docs/benchmarks.md and the memory table of docs/dense.md show, then
# write their tables and plots. Run it from the root of the checkout on an otherwise idle
# machine.
#
#   tools/dev/run_benchmarks.sh cpu           all: naive takes gigabytes
#   tools/dev/run_benchmarks.sh gpu
#   tools/dev/run_benchmarks.sh cpu_families  one part by name, or several
#   tools/dev/run_benchmarks.sh report        sizes of the models, tables and plots
set -uo pipefail

PYTHON=${PYTHON:-python}
RESULTS=docs/results
TINY=cluenet/cls_imagenet_tiny.py
FAMILIES=(coc/cls_imagenet_tiny fec/cls_imagenet_small clusterformer/cls_imagenet_tiny)
OTHERS=(mmpretrain::resnet/resnet18_8xb32_in1k.py
  mmpretrain::poolformer/poolformer-s12_32xb128_in1k.py
  mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py
  mmpretrain::convnext/convnext-tiny_32xb128_in1k.py)
SIDES=(--impl naive auto)
SHAPES=(--shape 224 224 --shape 320 320 --shape 512 512 --shape 768 768
  --shape 1024 1024 --shape 800 1344)
names=" "
asked=" "
failed=0

measure() { # NAME ARGUMENTS...: one that fails does not end the others
  local name=$1
  shift
  names+="$name "
  [[ $asked == *" $name "* || $asked == *" ${name%%_*} "* ]] || return 0
  echo "== $name"
  "$PYTHON" tools/analysis/benchmark.py "$@" --json $RESULTS/$name.json || failed=1
}

cpu() {
  local cpu=(--device cpu) both=(--batch 8 --mode infer train)
  measure cpu_families $TINY "${FAMILIES[@]}" "${OTHERS[@]}" "${cpu[@]}" "${both[@]}"
  measure cpu_224 $TINY "${SIDES[@]}" "${cpu[@]}" "${both[@]}"
  measure cpu_512 $TINY "${SIDES[@]}" "${cpu[@]}" --shape 512 512 --mode train
  measure cpu_512_cp $TINY "${SIDES[@]}" "${cpu[@]}" --shape 512 512 --mode train \
    --with-cp
  for family in "${FAMILIES[@]}"; do
    measure "cpu_224_${family%%/*}" "$family" "${SIDES[@]}" "${cpu[@]}" "${both[@]}"
  done
  measure cpu_memory cluenet/mask_rcnn_coco_tiny --what model --mode train \
    "${SIDES[@]}" "${cpu[@]}" --shape 800 1344 --processes 1
  measure cpu_scaling $TINY "${SIDES[@]}" "${cpu[@]}" "${SHAPES[@]}"
}

gpu() {
  local gpu=(--device cuda --amp) both=(--batch 128 --mode infer train)
  measure gpu_families $TINY "${FAMILIES[@]}" "${OTHERS[@]}" "${gpu[@]}" "${both[@]}"
  measure gpu_224 $TINY "${SIDES[@]}" "${gpu[@]}" "${both[@]}"
  measure gpu_largest_batch $TINY "${SIDES[@]}" "${gpu[@]}" --batch max \
    --shape 800 1344 --mode train
  measure gpu_scaling $TINY "${SIDES[@]}" "${gpu[@]}" "${SHAPES[@]}"
}

report() { # without cls_folder, whose classes are those of a folder of the user
  "$PYTHON" tools/analysis/get_flops.py configs/*/cls_[!f]*.py --json $RESULTS/models.json \
    > /dev/null || failed=1
  "$PYTHON" tools/dev/docs_tables.py $RESULTS docs/*.md configs/*/README.md || failed=1
  local kind device
  for kind in scaling families; do
    for device in cpu gpu; do
      [ ! -f $RESULTS/${device}_$kind.json ] || "$PYTHON" tools/dev/plots.py $kind \
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
