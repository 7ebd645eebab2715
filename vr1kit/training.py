"""What the baseline's and the method's training share: saving, stopping and resuming rightly, progress, adapters."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback

from vr1kit import checkpoints, disks
from vr1kit.criteria import Schedule
from vr1kit.interruption import Stop, stop_at_next_step
from vr1kit.models import Policy


class LoadsOwnCheckpoints:
    """Mixin for trl trainers: resume with the weights that were saved.

    transformers 5.23 saves this class under its older parameter names but, on resuming, loads them by their new ones: nothing
    matches, a warning is all one sees, and training goes on from the base policy (tests/test_grpo.py would fail).
    """

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        model = model or self.model
        if hasattr(model, "peft_config"):  # adapters are saved by peft, under one name only
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict())
        return None


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
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label, disable=not self.show, mininterval=2)
        self.began = time.time()

    def on_log(self, args, state, control, logs=None, **_):
        if not logs or self.watch not in logs:
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


class SafeSaving(TrainerCallback):
    """Checkpoints are sealed, need room before they are begun, and are made when training is asked to stop."""

    def __init__(self, stop: Stop):
        self.stop, self.size = stop, 0

    def on_step_end(self, args, state, control, **_):
        if self.stop.requested:
            control.should_save = control.should_training_stop = True
        if control.should_save:  # as large as the last one, and a tenth for the log and the rest
            disks.require_space(Path(args.output_dir), int(1.1 * self.size), "the next checkpoint")

    def on_save(self, args, state, control, **_):
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            checkpoints.seal(checkpoint)
            self.size = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())


def run_trainer(trainer, policy: Policy, folder: Path) -> Policy:
    """Train from the last whole checkpoint in folder/checkpoints, if there is one, and put the trained model into the policy.

    A training whose last step was saved already is only loaded: transformers would take one step more. Ctrl-C and SIGTERM save
    at the next step and raise KeyboardInterrupt.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.args.save_total_limit = None  # old ones go when the new one is sealed, not before
    last = checkpoints.find_last(folder / "checkpoints")
    if last and _is_complete(last):
        trainer._load_from_checkpoint(str(last))
    else:
        with stop_at_next_step() as stop:
            trainer.add_callback(SafeSaving(stop))
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    policy.model = trainer.accelerator.unwrap_model(trainer.model)
    policy.model.eval()
    return policy


def _is_complete(checkpoint: Path) -> bool:
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    return state.global_step >= state.max_steps


def lora_config(rank: int):
    """Adapters on the attention projections; None for rank 0, which trains all weights."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM")
