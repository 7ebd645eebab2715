"""One process of a small training, for tests/test_distributed.py: `python distributed_worker.py MODE FOLDER CHECKPOINT SCENES STEPS`.

MODE is ddp, fsdp2, zero2 or zero3; -lora after it: adapters learn, -tower: the tower learns, too, at a rate of its own. Without a
launcher it does not matter. DeepSpeed's modes are started by `accelerate launch` with the files of configs/accelerate. What is sampled
must not depend on the number of processes, or losses could not be compared: answers are drawn from the prompt and their place in the
group, rewards from their length.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

mode, folder, checkpoint, scenes, steps = sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), int(sys.argv[5])
mode, _, learns = mode.partition("-")
launched = "RANK" in os.environ

if mode == "fsdp2" and launched:
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT", "FSDP_RESHARD_AFTER_FORWARD": "true",
    }  # fmt: skip
if mode != "ddp" and launched:
    from cpu_accelerator import pretend

    pretend()

from vr1kit import grpo  # noqa: E402
from vr1kit.data import Part, curate, read_coco, to_dataset  # noqa: E402
from vr1kit.models import load_policy  # noqa: E402
from vr1kit.scale.ranks import leave_group  # noqa: E402
from vr1kit.settings import GrpoSettings  # noqa: E402


def answers(self, prompt_ids, *_, **__):
    rows = []
    for k, ids in enumerate(prompt_ids):
        generator = torch.Generator().manual_seed(sum(ids) + k % self.num_generations)
        length = int(torch.randint(2, 9, (1,), generator=generator))
        rows.append(torch.randint(30, 120, (length,), generator=generator).tolist())
    return rows, None


def score(self, completions, **_):
    return [SimpleNamespace(dual_format=len(str(c)) % 5 / 5, recall=0.0, precision=0.0) for c in completions]


grpo.VisionR1Trainer._generate_single_turn = answers
grpo.Rewards._scores = score

torch.manual_seed(0)
policy = load_policy(checkpoint)
examples, _ = curate({"toybox": read_coco(scenes / "annotations.json")}, [Part("d", ("toybox",), "detection", 8)], seed=0)
dataset = to_dataset(examples, policy.write_boxes, scenes)
settings = GrpoSettings(
    steps=steps, prompts_per_step=4, num_generations=2, max_completion_length=8, learning_rate=1e-3, warmup_steps=0,
    lr_scheduler="constant", save_steps=2, loss_type="dapo", beta=0.05,
    lora_rank=4 if learns == "lora" else 0, train_tower=learns == "tower",
    tower_learning_rate=1e-4 if learns == "tower" else None,
)  # fmt: skip
folder.mkdir(parents=True, exist_ok=True)


def log(row):
    with open(folder / "log.jsonl", "a") as out:
        out.write(json.dumps(row) + "\n")


grpo.train_grpo(policy, dataset, scenes, settings, folder, log, show=False, save_to=folder / "model")
leave_group()
