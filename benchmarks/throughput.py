"""Completions per second of a GRPO step, and what each saving gives. Ratios are within one run, on one thread.

    python benchmarks/throughput.py            # about three minutes; writes benchmarks/throughput.csv

benchmarks/overhead.py sets the whole against bare trl and breaks a step down.

Rows, each on top of the one before:
  stock        trl's GRPOTrainer as it is: every completion runs the vision tower and its prompt again, all weights learn
  frozen       the vision tower does not learn
  grouped      each picture and prompt is preprocessed once per group, not once per completion
  shared       a group shares its picture's features and its prompt's cache, in generation and in the loss
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import TrainerCallback

from vr1kit import grpo
from vr1kit.data import Part, curate, read_coco, to_dataset
from vr1kit.models import load_policy
from vr1kit.safekeeping.files import write_csv_atomic
from vr1kit.scenes import write_scenes
from vr1kit.settings import GrpoSettings

STEPS = 4  # the first is warm-up and is not counted
SETTINGS = GrpoSettings(steps=STEPS, prompts_per_step=16, num_generations=8, save_steps=10**6)


class Clock(TrainerCallback):
    def __init__(self):
        self.times = []

    def on_step_begin(self, *_, **__):
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.times.append(time.perf_counter() - self.began)


class Stock(grpo.VisionR1Trainer):
    """trl's own paths, step by step switched back on."""

    grouped, shared = False, False

    def __init__(self, *args, processing_class, **kwargs):
        super().__init__(*args, processing_class=processing_class, **kwargs)
        self.share_generation, self.share_loss = self.share_generation and self.shared, self.share_loss and self.shared
        if not self.grouped:
            self.processing_class = processing_class


def make_dataset(policy, folder: Path):
    """Detection questions about the toy box's pictures below `folder`."""
    sets = {"toybox": read_coco(folder / "toybox" / "annotations.json")}
    examples, _ = curate(sets, [Part("d", ("toybox",), "detection", SETTINGS.prompts_per_step * STEPS)], seed=0)
    return to_dataset(examples, policy.write_boxes, folder)


def measure(folder: Path, frozen: bool, grouped: bool, shared: bool) -> float:
    """Seconds per step, the median of the counted ones."""
    policy = load_policy("mixed")
    dataset = make_dataset(policy, folder)
    clock = Clock()
    trainer = type("Measured", (Stock,), {"grouped": grouped, "shared": shared})
    original, grpo.VisionR1Trainer = grpo.VisionR1Trainer, trainer
    try:
        torch.manual_seed(0)
        settings = replace(SETTINGS, train_tower=not frozen)
        grpo.train_grpo(policy, dataset, folder, settings, Path(tempfile.mkdtemp()), show=False, callbacks=[clock])
    finally:
        grpo.VisionR1Trainer = original
    return sorted(clock.times[1:])[len(clock.times[1:]) // 2]


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder / "toybox", "toybox", range(SETTINGS.prompts_per_step * STEPS))
        for label, switches in (
            ("stock", (False, False, False)), ("frozen", (True, False, False)), ("grouped", (True, True, False)), ("shared", (True, True, True)),
        ):  # fmt: skip
            seconds = measure(folder, *switches)
            rate = SETTINGS.prompts_per_step * SETTINGS.num_generations / seconds
            rows.append({"path": label, "seconds_per_step": round(seconds, 3), "completions_per_second": round(rate, 1)})
            rows[-1]["times_stock"] = round(rate / rows[0]["completions_per_second"], 2)
            print(rows[-1], flush=True)
    write_csv_atomic(Path(__file__).with_suffix(".csv"), rows)


if __name__ == "__main__":
    main()
