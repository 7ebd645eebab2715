"""What the kit costs over bare trl, and where the time of a step goes. One thread; ratios are within one run.

    python benchmarks/overhead.py              # about two minutes; writes benchmarks/overhead.csv
    python benchmarks/overhead.py --steps 5 --repeats 3

Three trainers take turns on the same policy, pictures, batch and generations (tower frozen, all else learning):

  trl      GRPOTrainer as it is, with a constant reward
  plain    the kit with its savings switched off: its rewards, log, monitor and credit on trl's own generation and loss
  kit      the kit as it is

plain / trl is the overhead (aim: at most 1.03); kit / trl is what a user sees. overhead.csv: 0.99 and 0.33, on one core of a busy
two-core machine, --steps 3 --repeats 2. A constant reward and ours give other gradients
and, after a step, other answers: so the learning rate is 0, every step starts from the same weights and seed, and all three
sample answers of the same length. The breakdown is of `kit` and `trl`: generation, reward, forward (log-probabilities), backward,
the rest (data, optimizer, logging).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from throughput import SETTINGS, STEPS, Stock, make_dataset
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

from vr1kit import grpo
from vr1kit.data import decode_images
from vr1kit.models import freeze_tower, load_policy
from vr1kit.safekeeping.files import write_csv_atomic
from vr1kit.scenes import write_scenes

PARTS = ("generation", "reward", "forward", "backward")


class Timed:
    """Mixin: seconds of each part, one dict per step."""

    def __init__(self, *args, **kwargs):
        self.parts, self.rows = defaultdict(float), []
        super().__init__(*args, **kwargs)
        backward = self.accelerator.backward
        self.accelerator.backward = lambda *a, **k: self._time("backward", backward, *a, **k)

    def _time(self, part, function, *args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self.parts[part] += time.perf_counter() - began

    def _generate_single_turn(self, *args, **kwargs):
        return self._time("generation", super()._generate_single_turn, *args, **kwargs)

    def _calculate_rewards(self, *args, **kwargs):
        return self._time("reward", super()._calculate_rewards, *args, **kwargs)

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        return self._time("forward", super()._get_per_token_logps_and_entropies, *args, **kwargs)

    def training_step(self, *args, **kwargs):
        torch.manual_seed(len(self.rows))  # the same draws for all three
        self.parts = defaultdict(float)
        began = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self.rows.append({"step": time.perf_counter() - began, **{part: self.parts[part] for part in PARTS}})
        return loss


class Bare(Timed, GRPOTrainer):
    pass


class Plain(Timed, Stock):
    grouped = shared = False


class Kit(Timed, grpo.VisionR1Trainer):
    pass


def constant(completions, **_):
    return [1.0] * len(completions)


def build(kind: type, folder: Path, settings) -> Timed:
    """A trainer with its policy and data, ready to train."""
    policy = load_policy("mixed")
    freeze_tower(policy.model)
    dataset = make_dataset(policy, folder)
    weights = [1.0] if kind is Bare else [1.0, 1.0, 1.0]
    config = grpo.grpo_config(settings, Path(tempfile.mkdtemp()), weights)
    common = {
        "model": policy.model,
        "args": config,
        "train_dataset": decode_images(dataset, folder),
        "processing_class": policy.processor,
    }
    if kind is Bare:
        return Bare(reward_funcs=[constant], **common)
    rewards = grpo.Rewards(settings.schedule)
    callbacks = [grpo.Monitor(grpo.LOGGED, Path(config.output_dir), False),
                 grpo.ProgressLog(lambda row: None, grpo.LOGGED, "reward", "overhead", False, settings.schedule)]  # fmt: skip
    return kind(reward_funcs=rewards.functions(), rewards=rewards, settings=settings, callbacks=callbacks, **common)


def measure(steps: int, repeats: int) -> list[dict]:
    """Medians over steps (the first of each run aside) of all repeats; runs take turns, so that drift of the machine is shared."""
    settings = replace(SETTINGS, steps=steps + 1, learning_rate=0.0, lr_scheduler="constant", warmup_steps=0)
    rows: dict[type, list[dict]] = {Bare: [], Plain: [], Kit: []}
    with tempfile.TemporaryDirectory() as name:
        write_scenes(Path(name) / "toybox", "toybox", range(settings.prompts_per_step * STEPS))
        for _ in range(repeats):
            for kind, all_rows in rows.items():
                trainer = build(kind, Path(name), settings)
                trainer.remove_callback(PrinterCallback)
                trainer.train()
                all_rows += trainer.rows[1:]
    out = []
    for kind, label in ((Bare, "trl"), (Plain, "plain"), (Kit, "kit")):
        table = {part: median(row[part] for row in rows[kind]) for part in ("step", *PARTS)}
        rest = table["step"] - sum(table[part] for part in PARTS)
        base = out[0]["step"] if out else table["step"]
        out.append(
            {
                "path": label,
                **{k: round(v, 4) for k, v in table.items()},
                "rest": round(rest, 4),
                "times_trl": round(table["step"] / base, 3),
            }
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="counted steps a run (4)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.steps, arguments.repeats)
    for row in rows:
        print(row)
    write_csv_atomic(arguments.out, rows)


if __name__ == "__main__":
    main()
