#!/usr/bin/env bash
# What to run where a GPU is at hand. **Nobody has run this yet**: no GPU was at hand where it was written.
#   bash benchmarks/gpu.sh [FOLDER]          # under an hour, a guess, on one GPU of 24 GB or more; needs pip install -e ".[gpu]"
# Every step prints what to compare with what; results are under FOLDER (out/gpu).
set -euo pipefail
out=${1:-out/gpu}
mkdir -p "$out"
nvidia-smi --query-gpu=name,memory.total --format=csv | tee "$out/gpu.txt"

echo "== pictures: 400 drawn scenes as a COCO folder"
python -c "from pathlib import Path; from vr1kit.scenes import write_scenes; write_scenes(Path('$out/scenes'), 'toybox', range(400))"

echo "== tiny: the whole command on the GPU, with the package's base policy (2 M parameters)"
vr1kit train --profile tiny --data "$out/scenes" --run gpu --label tiny

echo "== tiny-gpu: 50 M parameters from scratch, right answers first, then comparison; 20,000 scenes, drawn on the CPU"
python -c "from pathlib import Path; from vr1kit.scenes import write_scenes; write_scenes(Path('$out/many'), 'toybox', range(10**6, 10**6 + 20000))"
python benchmarks/random_checkpoint.py tiny-gpu "$out/tiny-gpu-base"
vr1kit train --profile tiny-gpu --method sft --model "$out/tiny-gpu-base" --data "$out/many" --run gpu --label tiny-gpu-sft -p epochs 10
vr1kit train --profile tiny-gpu --model runs/gpu/training/tiny-gpu-sft/model --data "$out/many" --run gpu --label tiny-gpu
for label in tiny-gpu-sft tiny-gpu; do
  vr1kit evaluate --model "runs/gpu/training/$label/model" --data "$out/scenes" --out "runs/gpu_$label"
done
vr1kit compare runs/gpu_tiny-gpu-sft runs/gpu_tiny-gpu --no-open

echo "== Qwen2.5-VL-3B's shape, random weights: 20 steps with adapters; memory against the plan (aim: within 15 %)"
python benchmarks/random_checkpoint.py qwen2.5-vl-3b "$out/random-3b"
vr1kit plan --profile qwen2.5-vl-3b-lora --model "$out/random-3b" --data "$out/scenes" -p max_completion_length 1024 | tee "$out/plan.txt"
python benchmarks/peak_memory.py "$out/peak.json" \
  train --profile qwen2.5-vl-3b-lora --model "$out/random-3b" --data "$out/scenes" --run gpu --label random-3b \
  -p steps 20 -p max_completion_length 1024
cat "$out/peak.json"

echo "== the same on a base of 4 bits"
python benchmarks/peak_memory.py "$out/peak-4bit.json" \
  train --profile qwen2.5-vl-3b-lora --quantize 4bit --model "$out/random-3b" --data "$out/scenes" --run gpu --label random-3b-4bit \
  -p steps 5 -p max_completion_length 1024
cat "$out/peak-4bit.json"

echo "== evaluation of the result; the same through vLLM: start 'vllm serve runs/gpu/training/random-3b/model', add --server"
vr1kit evaluate --model runs/gpu/training/random-3b/model --data "$out/scenes" --limit 50 --out runs/gpu_random-3b \
  --dtype bfloat16 --max-new-tokens 64
