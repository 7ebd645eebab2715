#!/usr/bin/env bash
# What to run where a GPU is at hand. **Nobody has run this yet**: no GPU was at hand where it was written.
#   bash benchmarks/gpu.sh [FOLDER]          # about 20 minutes on one GPU of 24 GB or more; needs pip install -e ".[gpu]"
# Every step prints what to compare with what; results are under FOLDER (out/gpu).
set -euo pipefail
out=${1:-out/gpu}
mkdir -p "$out"
nvidia-smi --query-gpu=name,memory.total --format=csv | tee "$out/gpu.txt"

echo "== pictures: 400 drawn scenes as a COCO folder"
python -c "from pathlib import Path; from vr1kit.scenes import write_scenes; write_scenes(Path('$out/scenes'), 'toybox', range(400))"

echo "== tiny: the whole command on the GPU, with the package's base policy (2 M parameters)"
vr1kit train --profile tiny --data "$out/scenes" --run gpu --label tiny

echo "== Qwen2.5-VL-3B's shape, random weights: 20 steps with adapters; memory against the plan (aim: within 15 %)"
python benchmarks/random_checkpoint.py qwen2.5-vl-3b "$out/random-3b"
vr1kit plan --profile qwen2.5-vl-3b-lora --model "$out/random-3b" --data "$out/scenes" -p max_completion_length 1024 | tee "$out/plan.txt"
python benchmarks/peak_memory.py "$out/peak.json" \
  train --profile qwen2.5-vl-3b-lora --model "$out/random-3b" --data "$out/scenes" --run gpu --label random-3b \
  -p steps 20 -p max_completion_length 1024
cat "$out/peak.json"

echo "== the same, quantized to 4 bits is a field of the profile: set quantize in vr1kit/scale/model_profiles.py"
echo "== evaluation of the result, 50 pictures"
vr1kit evaluate --model runs/gpu/training/random-3b/model --data "$out/scenes" --run gpu --dtype bfloat16 --max-new-tokens 64
