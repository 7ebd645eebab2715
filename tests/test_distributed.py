"""Two processes on the CPU (gloo): the losses of one with the same global batch, and an end in one line if one is killed.

FSDP2 runs here by telling accelerate that the CPU is an accelerator (distributed_worker.py); everything after that is the same.
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

WORKER = Path(__file__).with_name("distributed_worker.py")
COMPARED = ("loss", "grad_norm", "kl", "entropy", "reward", "tokens")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny:qwen2_5_vl", tmp_path_factory.mktemp("distributed") / "checkpoint")


def train(mode, processes, folder, checkpoint, scenes, steps=3):
    """Rows of the log of a small training."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words = [*start, str(WORKER), mode, str(folder), str(checkpoint), str(scenes), str(steps)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


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


@pytest.mark.parametrize("mode", ["ddp", "fsdp2"])
def test_two_processes_give_the_losses_of_one(mode, alone, checkpoint, toybox_folder, tmp_path):
    expected, folder = alone
    assert_same(train(mode, 2, tmp_path, checkpoint, toybox_folder), expected)
    ours, theirs = (load_policy(f / "model").model.state_dict() for f in (tmp_path, folder))
    apart = torch.cat([(ours[name] - value).abs().flatten() for name, value in theirs.items()])
    # Adam takes a whole step where a gradient is nothing but rounding (key biases have none): such weights may differ, few others
    assert (apart > 1e-4).float().mean() < 0.02


def test_adapters_over_shards_learn_and_are_written_merged_as_from_one_process(checkpoint, toybox_folder, tmp_path):
    expected = train("ddp-lora", 1, tmp_path / "one", checkpoint, toybox_folder)
    assert_same(train("fsdp2-lora", 2, tmp_path / "two", checkpoint, toybox_folder), expected)
    ours, theirs, base = (load_policy(f).model.state_dict() for f in (tmp_path / "two/model", tmp_path / "one/model", checkpoint))
    apart = torch.cat([(ours[name] - value).abs().flatten() for name, value in theirs.items()])
    moved = {name.rsplit(".", 2)[-2] for name, value in theirs.items() if not torch.equal(value, base[name])}
    assert moved == {"q_proj", "k_proj", "v_proj", "o_proj"} and (apart > 1e-4).float().mean() < 0.02


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
