"""Supervised fine-tuning: the baseline, on the same curated pictures, with the same care. Thin over trl's SFTTrainer.

The answer lists every box, left to right, as `vr1kit.prompts.write_answer` writes it; the loss covers the answer only.
Deviations from the released code's baseline: prompts are masked, and every box of an item is used (it trains on the prompt too
and on the first box of each item only).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from vr1kit.adapters import lora_config
from vr1kit.data import decode_images
from vr1kit.models import Policy, freeze_tower
from vr1kit.prompts import write_answer
from vr1kit.settings import SftSettings
from vr1kit.training import LearningRateGroups, LoadsOwnCheckpoints, ProgressLog, execution_options, run_trainer

LOGGED = {n: n for n in ("loss", "grad_norm", "learning_rate", "entropy")} | {"mean_token_accuracy": "token_accuracy"}


class BaselineTrainer(LearningRateGroups, LoadsOwnCheckpoints, SFTTrainer):
    """trl's SFTTrainer that resumes rightly and may have a learning rate for the tower."""


def add_answers(dataset, write: Callable = write_answer):
    """trl's columns for supervised training: prompt, completion (the right answer, by `Family.write`), image (still a path)."""
    answers = [
        [{"role": "assistant", "content": write(boxes, labels)}]
        for boxes, labels in zip(dataset["boxes_xyxy"], dataset["labels"], strict=True)
    ]
    return dataset.add_column("completion", answers).select_columns(["prompt", "completion", "image"])


def train_sft(
    policy: Policy,
    dataset,
    root: Path,
    settings: SftSettings,
    folder: Path,
    log: Callable[[dict], None] = lambda row: None,
    show: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
    save_to: Path | None = None,
) -> Policy:
    """Train the policy in place and return it. dataset: columns of `vr1kit.data.to_dataset`, image paths below `root`."""
    if not settings.train_tower:
        freeze_tower(policy.model)
    s = settings
    config = SFTConfig(
        **execution_options(s, s.batch, folder), num_train_epochs=s.epochs,
        learning_rate=s.learning_rate, lr_scheduler_type=s.lr_scheduler, warmup_steps=s.warmup_steps, max_grad_norm=s.max_grad_norm, completion_only_loss=True, max_length=None, packing=False, remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True}, seed=s.seed, data_seed=s.seed, logging_steps=1, save_strategy="steps",
        save_steps=s.save_steps,
    )  # fmt: skip
    trainer = BaselineTrainer(
        model=policy.model, args=config, train_dataset=decode_images(add_answers(dataset, policy.family.write), root), processing_class=policy.processor,
        callbacks=[ProgressLog(log, LOGGED, "loss", folder.name, show), *callbacks], peft_config=lora_config(s.lora_rank),
    )  # fmt: skip
    trainer.tower_learning_rate = s.tower_learning_rate
    return run_trainer(trainer, policy, folder, save_to)
