#!/usr/bin/env bash
# A C++ compiler that hands each file of a PyTorch extension the headers of PyTorch
# precompiled: reading them takes most of the time of MMCV's 77 files. It is called by a
# link to it, in the folder that gets the precompiled header; $REAL_CXX does the work.
case "$*" in *-DTORCH_EXTENSION_NAME=*) ;; *) exec $REAL_CXX "$@" ;; esac

flags=() skip=
for word; do
  if [ "$skip" ]; then skip=; continue; fi
  case $word in
    -o | -MF) skip=1 ;;
    -c | -MMD | *.cpp) ;;
    *) flags+=("$word") ;;
  esac
done

# The first file precompiles, the others wait for it. Should that fail, the header is
# merely read as ever; compilers ignore a precompiled one that does not fit.
header="$(dirname "$0")/torch.hpp"
(
  flock 9
  [ -e "$header" ] && exit
  echo '#include <torch/types.h>' >"$header"
  $REAL_CXX "${flags[@]}" -x c++-header -c "$header" -o "$header.gch"
) 9>"$header.lock"
exec $REAL_CXX -include "$header" "$@"
