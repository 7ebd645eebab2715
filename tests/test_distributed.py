"""Two processes on the CPU (gloo): the losses of one with the same global batch, and an end in one line if one is killed.

FSDP2 and DeepSpeed run here by telling accelerate that the CPU is an accelerator (cpu_accelerator.py); everything after that is the
same. DeepSpeed is not among the pins: `pip install deepspeed`, or its tests are skipped. They take the shipped configurations, but for
bfloat16, in which losses could not be compared.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from random_checkpoint import write_checkpoint

from vr1kit.models import load_policy
from vr1kit.scale.launcher import LaunchError, launch

CONFIGURATIONS = Path(__file__).parents[1] / "configs" / "accelerate"
WORKER = Path(__file__).with_name("distributed_worker.py")
COMPARED = ("loss", "grad_norm", "kl", "entropy", "reward", "tokens")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny:qwen2_5_vl", tmp_path_factory.mktemp("distributed") / "checkpoint")


def train(mode, processes, folder, checkpoint, scenes, steps=3):
    """Rows of the log of a small training."""
    start = [sys.executable]
    if mode.startswith("zero"):
        pytest.importorskip("deepspeed")
        folder.mkdir(parents=True, exist_ok=True)
        text = (CONFIGURATIONS / f"{mode[:5]}.yaml").read_text()
        (folder / "accelerate.yaml").write_text(text.replace("mixed_precision: bf16", "mixed_precision: 'no'"))
        start += ["-m", "accelerate.commands.launch", "--config_file", str(folder / "accelerate.yaml")]
        start += ["--num_processes", str(processes)]
    elif processes > 1 or mode.startswith("fsdp2"):
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words = [*start, str(WORKER), mode, str(folder), str(checkpoint), str(scenes), str(steps)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def weights_apart(folder, other) -> float:
    """The share of the numbers of two checkpoints that differ.

    Adam takes a whole step where a gradient is nothing but rounding (key biases have none): such weights may differ, few others.
    """
    ours, theirs = (load_policy(f).model.state_dict() for f in (folder, other))
    return (torch.cat([(ours[name] - value).abs().flatten() for name, value in theirs.items()]) > 1e-4).float().mean().item()


@pytest.fixture(scope="module")
def alone(checkpoint, toybox_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return train("ddp", 1, folder, checkpoint, toybox_folder), folder


def assert_same(rows, expected):
    assert [r["step"] for r in rows] == [r["step"] for r in expected]
    for row, other in zip(rows, expected, strict=True):
        for name in COMPARED:
            assert row[name] == pytest.approx(other[name], rel=2e-3, abs=2e-5), (row["step"], name)
    assert any(abs(r["loss"]) > 1e-3 for r in rows), "a loss of 0 would prove nothing"


@pytest.mark.parametrize("mode", ["ddp", "fsdp2", "zero2", "zero3"])
def test_two_processes_give_the_losses_of_one(mode, alone, checkpoint, toybox_folder, tmp_path):
    expected, folder = alone
    assert_same(train(mode, 2, tmp_path, checkpoint, toybox_folder), expected)
    assert weights_apart(tmp_path / "model", folder / "model") < 0.02


@pytest.mark.parametrize("mode", ["fsdp2", "zero2", "zero3"])
def test_adapters_over_shards_learn_and_are_written_merged_as_from_one_process(mode, checkpoint, toybox_folder, tmp_path):
    rows = train(f"{mode}-lora", 2, tmp_path / "two", checkpoint, toybox_folder)
    assert_same(rows, train("ddp-lora", 1, tmp_path / "one", checkpoint, toybox_folder))
    ours, base = (load_policy(f).model.state_dict() for f in (tmp_path / "two/model", checkpoint))
    moved = {name.rsplit(".", 2)[-2] for name, value in ours.items() if not torch.equal(value, base[name])}
    assert moved == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert weights_apart(tmp_path / "two/model", tmp_path / "one/model") < 0.02


@pytest.mark.parametrize("mode", ["zero2", "zero3"])
def test_the_tower_has_its_own_learning_rate_over_shards(mode, checkpoint, toybox_folder, tmp_path):
    rows = train(f"{mode}-tower", 2, tmp_path / "two", checkpoint, toybox_folder)
    assert_same(rows, train("ddp-tower", 1, tmp_path / "one", checkpoint, toybox_folder))
    assert weights_apart(tmp_path / "two/model", tmp_path / "one/model") < 0.02


@pytest.mark.parametrize(("mode", "processes"), [("fsdp2", 1), ("zero2", 2), ("zero3", 2)])
def test_shards_are_continued_and_a_training_that_is_through_takes_no_further_step(
    mode, processes, checkpoint, toybox_folder, tmp_path
):
    """FSDP2 on fewer processes than began, DeepSpeed on as many. Within the second epoch, as below."""
    train(mode, 2, tmp_path, checkpoint, toybox_folder)
    (tmp_path / "log.jsonl").unlink()
    rows = train(mode, processes, tmp_path, checkpoint, toybox_folder, steps=5)
    assert_same(rows, train("ddp", 1, tmp_path / "whole", checkpoint, toybox_folder, steps=5)[3:])
    (tmp_path / "log.jsonl").unlink()  # as if killed before it was finished
    assert train(mode, processes, tmp_path, checkpoint, toybox_folder, steps=5) == []
    assert weights_apart(tmp_path / "model", tmp_path / "whole/model") < 0.02


@pytest.mark.parametrize("processes", [1, 2])
def test_one_or_two_processes_continue_what_two_began(processes, alone, checkpoint, toybox_folder, tmp_path):
    """Within the second epoch, whose pictures come in another order than the first's."""
    expected, _ = alone
    train("ddp", 2, tmp_path, checkpoint, toybox_folder)
    log = tmp_path / "log.jsonl"
    log.unlink()
    for saved in (tmp_path / "checkpoints").glob("checkpoint-*"):
        state = saved / "trainer_state.json"
        assert json.loads(state.read_text())["global_step"] == 3
    rows = train("ddp", processes, tmp_path, checkpoint, toybox_folder, steps=5)
    assert [r["step"] for r in rows] == [4, 5]
    assert_same(rows, train("ddp", 1, tmp_path / "whole", checkpoint, toybox_folder, steps=5)[3:])


def rank_pids(rank: int, word: str) -> list[int]:
    """Processes started with this rank and this word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"RANK={rank}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    if word.encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_kill_9_of_one_process_ends_the_launcher_and_a_rerun_ends_as_an_undisturbed_run(toybox_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    words = ["train", "--profile", "tiny", "--data", str(toybox_folder), "-p", "steps", "6", "-p", "prompts_per_step", "2",
             "-p", "num_generations", "2", "-p", "save_steps", "2"]  # fmt: skip
    disturbed, calm = [*words, "--label", "disturbed"], [*words, "--label", "calm"]
    log = tmp_path / "runs" / "models" / "training" / "disturbed" / "log.jsonl"
    killed = []

    def kill():
        if not killed and log.exists() and len(log.read_text().splitlines()) >= 3:
            os.kill(rank_pids(1, "disturbed")[0], signal.SIGKILL)
            killed.append(time.monotonic())

    with pytest.raises(LaunchError, match="process 2 of 2 was killed by SIGKILL.*the same command goes on") as error:
        launch(disturbed, 2, tmp_path / "disturbed.log", on_poll=kill)
    assert time.monotonic() - killed[0] < 60 and "\n" not in str(error.value)
    assert not rank_pids(0, "disturbed"), "the other process was ended too"
    launch(disturbed, 2, tmp_path / "disturbed.log")
    launch(calm, 2, tmp_path / "calm.log")
    rows, expected = (
        [json.loads(line) for line in (log.parents[1] / name / "log.jsonl").read_text().splitlines()]
        for name in ("disturbed", "calm")
    )
    drop = ("seconds",)
    assert [{k: v for k, v in r.items() if k not in drop} for r in rows] == [
        {k: v for k, v in r.items() if k not in drop} for r in expected
    ]
