#!/usr/bin/env bash
# What to run where a GPU is at hand. **Nobody has run it on a GPU yet**: none was at hand where it was written. With SMALL=1 it has been
# run from end to end on a CPU, with tiny models and few steps.
#   bash benchmarks/gpu.sh [FOLDER]          # under an hour, a guess, on one GPU of 24 GB or more; needs pip install -e ".[gpu]"
#   SMALL=1 bash benchmarks/gpu.sh           # tries this script itself, on a CPU: ten minutes
# A step that is done is not repeated: the same command goes on after an interruption. Results: FOLDER/results.csv (out/gpu), with what
# to compare with what.
set -euo pipefail
out=${1:-out/gpu}
mkdir -p "$out"
if [ -n "${SMALL:-}" ]; then
  scenes=24 shape=tiny:qwen2_5_vl dtype=float32
  pretraining=(--size tiny --processes 1 --batch 4 --pictures 64 --warm-up-steps 4 --clean-steps 8 --mixed-steps 8)
  few=(-p steps 2 -p prompts_per_step 2 -p num_generations 2) epochs=(-p epochs 1)
  lora=(-p steps 2 -p prompts_per_step 1 -p num_generations 4 -p execution.accumulation 2)
  echo "none: a CPU" >"$out/gpu.txt"
else
  scenes=4000 shape=qwen2.5-vl-3b dtype=bfloat16
  pretraining=(--size tiny-gpu --device cuda --processes 1 --batch 64)
  few=() epochs=(-p epochs 5) lora=(-p steps 20)
  nvidia-smi --query-gpu=name,memory.total --format=csv | tee "$out/gpu.txt"
fi

echo "== pictures: drawn scenes as COCO folders, to train on and to test on"
draw() { [ -f "$1/annotations.json" ] || python -c "
import sys; from pathlib import Path; from vr1kit.scenes import write_scenes
write_scenes(Path(sys.argv[1]), 'toybox', range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])))" "$@"; }
draw "$out/scenes" 0 "$((scenes / 10 + 10))"
draw "$out/many" 1000000 "$scenes"

echo "== tiny-gpu: 50 M parameters from scratch, dense warm-up, right answers, answers of mixed quality; then SFT and Vision-R1 from there"
vr1kit pretrain --out "$out/base" "${pretraining[@]}"
vr1kit train --profile tiny-gpu --method sft --model "$out/base/mixed" --data "$out/many" --run gpu --label tiny-gpu-sft "${epochs[@]}"
vr1kit train --profile tiny-gpu --model "$out/base/mixed" --data "$out/many" --run gpu --label tiny-gpu "${few[@]}"
vr1kit evaluate --model "$out/base/mixed" --data "$out/scenes" --out runs/gpu_base
vr1kit evaluate --model runs/gpu/training/tiny-gpu-sft/model --data "$out/scenes" --out runs/gpu_sft
vr1kit evaluate --model runs/gpu/training/tiny-gpu/model --data "$out/scenes" --out runs/gpu_vision_r1
vr1kit compare runs/gpu_base runs/gpu_vision_r1 --no-open
vr1kit compare runs/gpu_sft runs/gpu_vision_r1 --no-open

echo "== Qwen2.5-VL-3B's shape, random weights: 20 steps with adapters; memory against the plan (aim: within 15 %)"
[ -f "$out/random-3b/config.json" ] || python benchmarks/random_checkpoint.py "$shape" "$out/random-3b"
vr1kit plan --profile qwen2.5-vl-3b-lora --model "$out/random-3b" --data "$out/scenes" -p max_completion_length 1024 "${lora[@]}" | tee "$out/plan.txt"
[ -f "$out/peak.json" ] || python benchmarks/peak_memory.py "$out/peak.json" \
  train --profile qwen2.5-vl-3b-lora --model "$out/random-3b" --data "$out/scenes" --run gpu --label random-3b \
  -p max_completion_length 1024 "${lora[@]}"

if [ -z "${SMALL:-}" ]; then
  echo "== the same on a base of 4 bits"
  [ -f "$out/peak-4bit.json" ] || python benchmarks/peak_memory.py "$out/peak-4bit.json" \
    train --profile qwen2.5-vl-3b-lora --quantize 4bit --model "$out/random-3b" --data "$out/scenes" --run gpu --label random-3b-4bit \
    -p steps 5 -p max_completion_length 1024
fi

echo "== evaluation of the result; the same through vLLM: start 'vllm serve runs/gpu/training/random-3b/model', add --server"
vr1kit evaluate --model runs/gpu/training/random-3b/model --data "$out/scenes" --limit 5 --out runs/gpu_random-3b \
  --dtype "$dtype" --max-new-tokens 64

python benchmarks/gpu_results.py "$out"
