"""Stopping a training: it saves at the step it is in, and goes on to what it would have become."""

import copy
import os
import signal
from dataclasses import replace

import pytest
import torch
from test_grpo import dataset, noisy_rewards  # noqa: F401  fixtures
from transformers import TrainerCallback

from vr1kit.grpo import train_grpo
from vr1kit.runs import open_run
from vr1kit.safekeeping.checkpoints import find_last
from vr1kit.safekeeping.disks import DiskFull
from vr1kit.settings import GrpoSettings

SETTINGS = GrpoSettings(steps=5, prompts_per_step=2, num_generations=2, max_completion_length=8, save_steps=5, warmup_steps=0)


class Send(TrainerCallback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, number, step):
        self.number, self.step = number, step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)


def train(random_policy, dataset, root, step, callbacks=()):  # noqa: F811
    policy = replace(random_policy, model=copy.deepcopy(random_policy.model))
    resumed = step.begin()
    train_grpo(policy, dataset, root, SETTINGS, step.path, step.append_log, show=False, callbacks=callbacks)
    return policy, resumed


def without_times(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_has_saved_and_ends_as_an_undisturbed_one(
    random_policy, dataset, toybox_folder, tmp_path, monkeypatch, noisy_rewards, number  # noqa: F811
):  # fmt: skip
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path))
    whole, _ = train(random_policy, dataset, toybox_folder, open_run("a").step("whole", {}, code=[]))
    step = open_run("a").step("cut", {}, code=[])
    with pytest.raises(KeyboardInterrupt):  # in step 4: after the stage's end, before any checkpoint was due
        train(random_policy, dataset, toybox_folder, step, [Send(number, 4)])
    assert find_last(step.path / "checkpoints").name == "checkpoint-4"
    assert [row["step"] for row in step.read_log()] == [1, 2, 3, 4]

    again, resumed = train(random_policy, dataset, toybox_folder, step)
    assert resumed
    rows = without_times(open_run("a").step("whole", {}, code=[]).read_log())
    assert without_times(step.read_log()) == rows
    for (name, a), b in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    snapshots = [path / "model-beginner" / "model.safetensors" for path in (step.path, step.run.path / "whole")]
    assert snapshots[0].read_bytes() == snapshots[1].read_bytes(), "the stage's end is not lost with the interruption"
    step.finish({})
    assert not (step.path / "checkpoints").exists(), "they are for resuming only"


@pytest.mark.slow
def test_a_training_killed_after_its_last_step_takes_no_further_one(
    random_policy, dataset, toybox_folder, tmp_path, monkeypatch, noisy_rewards  # noqa: F811
):  # fmt: skip
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path))
    step = open_run("a").step("whole", {}, code=[])
    policy, _ = train(random_policy, dataset, toybox_folder, step)  # and never finished
    rows = step.read_log()
    again, resumed = train(random_policy, dataset, toybox_folder, step)
    assert resumed and step.read_log() == rows and len(rows) == 5
    for (name, a), b in zip(policy.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert (step.path / "model-beginner" / "model.safetensors").is_file()


def test_a_checkpoint_for_which_there_is_no_room_is_not_begun(tmp_path):
    from types import SimpleNamespace

    from vr1kit.safekeeping.interruption import Stop
    from vr1kit.training import SafeSaving

    saving = SafeSaving(Stop())
    saving.size = 10**18
    arguments, control = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(should_save=False)
    saving.on_step_end(arguments, None, control)
    control.should_save = True
    with pytest.raises(DiskFull, match="the next checkpoint needs about"):
        saving.on_step_end(arguments, None, control)
