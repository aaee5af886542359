#!/usr/bin/env bash
# All speed benchmarks on a machine with a GPU and without a network, in parts of under 10 minutes.
#
#   bash benchmarks/gpu.sh RESULTS [PART ...]
#
# PART is train_step, train_step_digits, attack, pretrain or recipe; without any, all but recipe. A part whose result lies in RESULTS is skipped, so the same command goes on where
# it was stopped.
#
# `recipe` trains configs/cifar10.yaml for LIMIT seconds; call it again until it says it is finished
# (data under DATA, run folder RUN).
#
# DEVICE=cpu QUICK=1 tries the script anywhere. OPTIONS are added to every benchmark's command line.
set -uo pipefail
cd "$(dirname "$0")/.."

results=${1:?usage: bash benchmarks/gpu.sh RESULTS [PART ...]}
shift
device=${DEVICE:-cuda}
limit=${LIMIT:-560}
run=${RUN:-checkpoints/my_cifar10}
python=${PYTHON:-python}
options=(--device "$device")
[[ -n ${QUICK:-} ]] && options+=(--quick)
read -r -a more <<<"${OPTIONS:-}"
mkdir -p "$results"
failed=0

benchmark() {
  local file="$results/$1.$device.json" extra=()
  [[ -s $file ]] && { echo "$1: done before"; return; }
  [[ $1 == train_step_digits ]] && extra=(--width 16 data.image_size=16 data.channels=1
    backbone.stem_stride=2 backbone.activation=relu)
  timeout "$limit" "$python" -m "benchmarks.${1%_digits}" "${options[@]}" --output "$file" \
    "${extra[@]}" "${more[@]}" >"$results/$1.$device.log" 2>&1
  local code=$?
  tail -n 20 "$results/$1.$device.log"
  ((code == 0)) || { echo "$1: ended with $code"; failed=1; }
}

recipe() {
  # An interrupt saves the state of training; the next call goes on from there.
  timeout -s INT -k 60 "$limit" "$python" train.py --config configs/cifar10.yaml \
    run.device="$device" run.dir="$run" data.root="${DATA:-data}"
  local code=$?
  case $code in
    0) cp "$run/report/results.json" "$results/cifar10.json" && echo "recipe: finished" ;;
    124 | 130) echo "recipe: saved; call it again to go on" ;;
    *) echo "recipe: ended with $code"; failed=1 ;;
  esac
}

[[ $# -gt 0 ]] || set -- train_step train_step_digits attack pretrain
for part in "$@"; do
  case $part in
    recipe) recipe ;;
    train_step | train_step_digits | attack | pretrain) benchmark "$part" ;;
    *) echo "$part: no such part" >&2; exit 2 ;;
  esac
done
exit $failed
