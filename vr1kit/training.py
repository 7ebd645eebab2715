"""What the baseline's and the method's training share: execution, saving, stopping and resuming rightly, progress,
learning-rate groups."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from vr1kit.adapters import save_merged
from vr1kit.criteria import Schedule
from vr1kit.models import Policy, save_processor
from vr1kit.monitor import Watch
from vr1kit.safekeeping import checkpoints, disks
from vr1kit.safekeeping.files import open_folder_atomic
from vr1kit.safekeeping.interruption import Stop, stop_at_next_step
from vr1kit.safekeeping.manifests import TENSORBOARD
from vr1kit.scale.ranks import anybody
from vr1kit.settings import GrpoSettings, SftSettings

# trl 1.16 and peft 0.21 call transformers 5 by older names, in every step; nothing here does.
warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing(_enable|_disable)?` is deprecated", FutureWarning)


class LoadsOwnCheckpoints:
    """Mixin for trl trainers: resume with the weights that were saved, and with the pictures that come next.

    transformers 5.23 saves this class under its older parameter names but, on resuming, loads them by their new ones: nothing
    matches, a warning is all one sees, and training goes on from the base policy (tests/test_grpo.py would fail).
    """

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        model = model or self.model
        # adapters are saved by peft, shards by torch: under one name only
        if hasattr(model, "peft_config") or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict())
        return None

    def _run_epoch(self, *args, epoch, train_dataloader, **kwargs):
        """The order of an epoch's pictures is a function of its number, which must reach the sampler. accelerate passes it through
        two wrappers; where several processes resume within an epoch there are three, and they would see the first epoch's order.
        And a training that was killed after its last step takes no further one: transformers would."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        sampler = train_dataloader.batch_sampler
        while (inner := getattr(sampler, "batch_sampler", getattr(sampler, "sampler", None))) is not None:
            sampler = inner
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        return super()._run_epoch(*args, epoch=epoch, train_dataloader=train_dataloader, **kwargs)


class LearningRateGroups:
    """Mixin for trl trainers: the vision tower may learn at a pace of its own (`tower_learning_rate`)."""

    tower_learning_rate: float | None = None

    def create_optimizer(self, model=None):
        optimizer = super().create_optimizer(model)
        if self.tower_learning_rate is None or len(optimizer.param_groups) > 2:  # set already
            return optimizer
        named = (self.model if model is None else model).named_parameters()
        tower = {id(p) for name, p in named if "visual." in name}
        for group in list(optimizer.param_groups):
            mine = [p for p in group["params"] if id(p) in tower]
            if mine:
                group["params"] = [p for p in group["params"] if id(p) not in tower]
                options = {key: value for key, value in group.items() if key != "params"}
                optimizer.add_param_group({**options, "params": mine, "lr": self.tower_learning_rate})
        return optimizer


class ProgressLog(TrainerCallback):
    """A progress bar with time left and the value to watch; one JSON object per step to `log`."""

    def __init__(
        self,
        log: Callable[[dict], None],
        keep: dict[str, str],
        watch: str,
        label: str,
        show: bool,
        schedule: Schedule | None = None,
    ):
        """`keep` maps trl's names to ours; a row is written only if the value to `watch` is there."""
        self.log, self.keep, self.watch, self.label, self.show, self.schedule = log, keep, watch, label, show, schedule
        self.bar, self.began = None, 0.0

    def on_train_begin(self, args, state, control, **_):
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self.label,
            disable=not (self.show and state.is_world_process_zero),
            mininterval=2,
        )
        self.began = time.time()

    def on_log(self, args, state, control, logs=None, **_):
        if not logs or self.watch not in logs or not state.is_world_process_zero:
            return
        row: dict = {"step": state.global_step}
        if self.schedule is not None:
            row["stage"] = self.schedule.stage_at(max(state.global_step - 1, 0) / max(state.max_steps, 1)).name
        row["seconds"] = round(time.time() - self.began, 1)
        row.update(
            {new: round(float(logs[old]), 9 if new == "learning_rate" else 5) for old, new in self.keep.items() if old in logs}
        )
        self.log(row)
        self.bar.set_postfix(
            {self.watch: f"{logs[self.watch]:.2f}", **({"stage": row["stage"]} if self.schedule else {})}, refresh=False
        )
        self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, *_, **__):
        self.bar.close()


class Monitor(TrainerCallback):
    """Says in words what goes wrong (`vr1kit.monitor`), and ends a hopeless run if it may. Every rank sees the same numbers."""

    def __init__(self, keep: dict[str, str], folder: Path, stop: bool):
        self.keep, self.folder, self.stop, self.watch = keep, folder, stop, Watch()

    def on_log(self, args, state, control, logs=None, **_):
        row = {"step": state.global_step, **{new: logs[old] for old, new in self.keep.items() if old in (logs or {})}}
        if "reward" not in row:
            return
        for finding in self.watch.add(row):
            if state.is_world_process_zero:
                tqdm.write(f"step {finding.step}: {finding.words}")
                with open(self.folder / "findings.jsonl", "a", encoding="utf-8") as out:
                    out.write(json.dumps(asdict(finding)) + "\n")
            if self.stop and finding.hopeless:
                control.should_training_stop = control.should_save = True


def count_processes() -> int:
    """Processes of this training, as their launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def execution_options(settings: GrpoSettings | SftSettings, batch: int, folder: Path) -> dict:
    """The part of trl's configuration that says how a global `batch` is run and where, for the method and the baseline alike."""
    e, parts = settings.execution, count_processes() * settings.execution.accumulation
    # FSDP recomputes by itself where its accelerate file says so; both at once would do it twice
    recompute = e.activation_checkpointing and os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "false").lower() != "true"
    if batch % parts:
        what = f"a step's {batch} rows cannot be shared by {count_processes()} processes x {e.accumulation} micro-batches"
        raise ValueError(f"{what}; choose processes and accumulation whose product divides {batch}")
    return {
        "per_device_train_batch_size": batch // parts, "gradient_accumulation_steps": e.accumulation,
        "use_cpu": not torch.cuda.is_available(), "bf16": e.precision == "bfloat16", "fp16": False,
        "activation_checkpointing": recompute, "gradient_checkpointing": recompute,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if recompute else None,
        "dataloader_pin_memory": torch.cuda.is_available(), "report_to": list(e.trackers), "disable_tqdm": True,
        "output_dir": str(folder / "checkpoints"), "project": "vr1kit", "run_name": folder.name,
        "weight_decay": getattr(settings, "weight_decay", 0.0), "ddp_find_unused_parameters": False,
    }  # fmt: skip


class SafeSaving(TrainerCallback):
    """Checkpoints are sealed, need room before they are begun, and are made when training is asked to stop."""

    def __init__(self, stop: Stop):
        self.stop, self.size = stop, 0

    def on_step_end(self, args, state, control, **_):
        if anybody(self.stop.requested):
            control.should_save = control.should_training_stop = True
        if control.should_save:  # as large as the last one, and a tenth for the log and the rest
            disks.require_space(Path(args.output_dir), int(1.1 * self.size), "the next checkpoint")

    def on_save(self, args, state, control, **_):
        if dist.is_initialized():
            dist.barrier()  # each process writes a part of it
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            checkpoints.seal(checkpoint)
            self.size = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())


@contextmanager
def wandb_into(trainer, folder: Path) -> Iterator[None]:
    """wandb writes below `folder`, unless WANDB_DIR says where, and ends its run before the step's files are hashed."""
    if "wandb" not in trainer.args.report_to:
        yield
        return
    ours = "WANDB_DIR" not in os.environ
    os.environ.setdefault("WANDB_DIR", str(folder))  # it makes a folder `wandb` in it; by default in the current one
    try:
        yield
    finally:
        import wandb

        wandb.finish()
        if ours:
            del os.environ["WANDB_DIR"]


def run_trainer(trainer, policy: Policy, folder: Path, save_to: Path | None = None) -> Policy:
    """Train from the last whole checkpoint in folder/checkpoints, if there is one, and put the trained model into the policy.

    Ctrl-C and SIGTERM save at the next step and raise KeyboardInterrupt. save_to writes the policy as well, which sharded weights need: from one process
    alone they cannot be saved afterwards.
    """
    trainer.remove_callback(PrinterCallback)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder / TENSORBOARD)  # the default is among the checkpoints, which go at the end
    trainer.args.save_total_limit = None  # old ones go when the new one is sealed, not before
    with trainer.accelerator.main_process_first():  # what is damaged is removed, by one process
        last = checkpoints.find_last(folder / "checkpoints")
    with stop_at_next_step() as stop, wandb_into(trainer, folder):
        trainer.add_callback(SafeSaving(stop))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if save_to is not None:
        save_trained(trainer, policy, save_to)
    policy.model = trainer.accelerator.unwrap_model(trainer.model)
    policy.model.eval()
    return policy


def save_trained(trainer, policy: Policy, folder: Path) -> None:
    """Write the policy as it is now, adapters merged, from any number of processes; shards are gathered. Call it on every rank."""
    model, accelerator = trainer.accelerator.unwrap_model(trainer.model), trainer.accelerator
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled  # then every rank takes part, and the first one gets it
    state = accelerator.get_state_dict(trainer.model_wrapped) if sharded else model.state_dict()
    if accelerator.is_main_process:
        with open_folder_atomic(folder) as new:
            save_merged(model, state, new)
            save_processor(policy, new)
    accelerator.wait_for_everyone()
