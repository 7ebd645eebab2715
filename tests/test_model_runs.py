"""`vr1kit plan`, `train` and `evaluate` end to end on the package's own policy, and every refusal in one line."""

import json
import math
import os
import sqlite3
from dataclasses import fields, replace
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit import cli
from vr1kit.commands.arguments import parse_value
from vr1kit.runs import open_run
from vr1kit.safekeeping import checkpoints
from vr1kit.safekeeping.checkpoints import number_of
from vr1kit.safekeeping.files import digest
from vr1kit.scale.model_runs import change_settings, with_context
from vr1kit.scale.plan import Lengths
from vr1kit.settings import Execution, GrpoSettings, SftSettings

SMALL = ["-p", "steps", "2", "-p", "prompts_per_step", "2", "-p", "num_generations", "2", "-p", "save_steps", "1"]


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def complaint(capsys, *words: str) -> str:
    capsys.readouterr()  # progress bars of what ran before
    assert cli.main([str(w) for w in words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def test_train_then_again_then_evaluate(toybox_folder, capsys, runs_folder):
    words = ["train", "--profile", "tiny", "--data", str(toybox_folder), *SMALL]
    assert cli.main(words) == 0
    step = open_run("models").find("training/tiny-grpo")
    assert step.state() == "done" and [r["step"] for r in step.read_log()] == [1, 2]
    before = (step.path / "model" / "model.safetensors").stat().st_mtime
    assert cli.main(words) == 0 and (step.path / "model" / "model.safetensors").stat().st_mtime == before
    capsys.readouterr()
    test = ["evaluate", "--model", str(step.path / "model"), "--data", str(toybox_folder), "--max-new-tokens", "40"]
    out = runs_folder / "tested"
    assert cli.main([*test, "--out", str(out)]) == 0
    assert "AP50" in capsys.readouterr().out
    kept = out / "evaluation" / "answers.jsonl"
    assert len(kept.read_text().splitlines()) == 8
    made = kept.stat().st_mtime
    assert cli.main([*test, "--out", str(out)]) == 0 and kept.stat().st_mtime == made  # found, not asked again


def test_sft_takes_the_same_command(toybox_folder):
    words = ["train", "--profile", "tiny", "--method", "sft", "--data", str(toybox_folder), "-p", "batch", "4"]
    assert cli.main(words) == 0
    assert open_run("models").find("training/tiny-sft").state() == "done"


def test_tensorboard_has_the_log_and_changes_no_result(toybox_folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["train", "--profile", "tiny", "--data", str(toybox_folder), *SMALL]
    assert cli.main(words) == 0 and cli.main([*words, "--label", "untracked", "-p", "execution.trackers", "[]"]) == 0
    tracked, untracked = (open_run("models").find(f"training/{name}") for name in ("tiny-grpo", "untracked"))
    events = EventAccumulator(str(tracked.path / "tensorboard")).Reload()
    logged = [(row["step"], row["reward"]) for row in tracked.read_log()]
    assert [(s.step, pytest.approx(s.value, abs=1e-4)) for s in events.Scalars("train/reward")] == logged
    assert not (untracked.path / "tensorboard").exists()
    weights = [(step.path / "model" / "model.safetensors").read_bytes() for step in (tracked, untracked)]
    assert weights[0] == weights[1]


def test_wandb_offline_lands_in_the_steps_folder_and_leaves_the_step_done(toybox_folder, monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    words = ["train", "--profile", "tiny", "--data", str(toybox_folder), *SMALL, "-p", "execution.trackers", '["wandb"]']
    assert cli.main(words) == 0
    step = open_run("models").find("training/tiny-grpo")
    (run,) = step.path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"rewards/recall/mean" in run.read_bytes() and not (tmp_path / "wandb").exists()
    assert step.state() == "done" and "WANDB_DIR" not in os.environ


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not among the pins")
def test_trackio_has_the_log(toybox_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    words = ["train", "--profile", "tiny", "--data", str(toybox_folder), *SMALL, "-p", "execution.trackers", '["trackio"]']
    assert cli.main(words) == 0
    step = open_run("models").find("training/tiny-grpo")
    assert step.state() == "done"
    with sqlite3.connect(tmp_path / "trackio" / "vr1kit.db") as database:
        texts = [bytes(text).decode() for (text,) in database.execute("select metrics from metrics")]
    rewards = [found["train/reward"] for found in map(json.loads, texts) if "train/reward" in found]
    assert rewards == [pytest.approx(row["reward"], abs=1e-3) for row in step.read_log()]


def test_bad_input_is_refused_before_any_work(toybox_folder, capsys, runs_folder):
    train = ["train", "--profile", "tiny", "--data", toybox_folder]
    assert "no setting 'stps'; there are: steps" in complaint(capsys, *train, "-p", "stps", 3)
    assert "model profile 'huge' is not known" in complaint(capsys, "train", "--profile", "huge", "--data", toybox_folder)
    assert "needs --data" in complaint(capsys, "train", "--profile", "tiny")
    said = complaint(capsys, *train, "-p", "prompts_per_step", 3, "-p", "execution.accumulation", 16)
    assert "3 prompts x 8 generations = 24 rows" in said and "multiple of 2" in said
    said = complaint(capsys, *train, "-p", "max_completion_length", 10)
    assert "max_completion_length is 10; set it to" in said
    said = complaint(capsys, *train, "-p", "max_completion_length", 2000)
    assert "the model's context is 1024; set max_completion_length to at most" in said
    assert "loss_type must be one of 'grpo', 'dr_grpo', 'dapo'" in complaint(capsys, *train, "-p", "loss_type", "ppo")
    assert "no such folder" in complaint(capsys, *train, "--model", "nowhere")
    assert "needs the package bitsandbytes" in complaint(capsys, *train, "--quantize", "4bit") or find_spec("bitsandbytes")
    assert "needs the package flash_attn" in complaint(capsys, *train, "--attention", "flash_attention_2") or find_spec(
        "flash_attn"
    )
    assert not (runs_folder / "models" / "training").exists()


def test_a_checkpoint_of_other_settings_or_versions_is_refused(toybox_folder, capsys):
    words = ["train", "--profile", "tiny", "--data", str(toybox_folder), *SMALL]
    assert cli.main(words) == 0
    step = open_run("models").find("training/tiny-grpo")
    record = json.loads((step.path / "manifest.json").read_text())
    (step.path / "manifest.json").unlink()  # as if it had been killed after the last checkpoint
    (step.path / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (step.path / "attempt.json").write_text(json.dumps({**record, "started": 0, "earlier_seconds": 0}))
    said = complaint(capsys, *words, "-p", "learning_rate", "1e-5")
    assert "learning_rate 0.0001 then, 1e-05 now" in said and "--label" in said
    record["config"]["versions"]["trl"] = "0.1"
    (step.path / "attempt.json").write_text(json.dumps({**record, "started": 0, "earlier_seconds": 0}))
    said = complaint(capsys, *words)
    assert "trl 0.1 then" in said and "install those versions" in said


def test_plan_says_what_a_profile_needs(capsys):
    assert cli.main(["plan", "--profile", "qwen2.5-vl-7b"]) == 0
    said = capsys.readouterr().out
    assert "8 x h100-80" in said and "optimizer" in said and "fits" in said and "26.6" in said and "not measured" in said
    assert cli.main(["plan", "--profile", "qwen2.5-vl-7b-lora", "--gpu", "rtx4090"]) == 0
    assert "does NOT fit" in capsys.readouterr().out
    assert "GPU 'abacus' is not known" in complaint(capsys, "plan", "--profile", "qwen2.5-vl-7b", "--gpu", "abacus")
    assert "runs on a CPU" in complaint(capsys, "plan", "--profile", "tiny")


def test_settings_change_by_name():
    changed = change_settings(GrpoSettings(), {"steps": 3, "execution.accumulation": 4, "execution.trackers": ["wandb"]})
    assert changed.steps == 3 and changed.execution == Execution(accumulation=4, trackers=("wandb",))
    with pytest.raises(ValueError, match="trackers must be one of 'tensorboard'"):
        change_settings(GrpoSettings(), {"execution.trackers": ["paper"]})


VALUES = st.text(max_size=12) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["grpo", "k3", "9" * 5000, "-1", "[" * 9999]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["stages", "until", "a"]), inner, max_size=3),
    max_leaves=6,
).map(lambda value: value if isinstance(value, str) else json.dumps(value))
NAMES = [f.name for kind in (GrpoSettings, SftSettings) for f in fields(kind)]
NAMES += [f"execution.{f.name}" for f in fields(Execution)]


@settings(max_examples=500, deadline=None)
@given(name=st.sampled_from(NAMES) | st.text(max_size=8), text=VALUES, base=st.sampled_from([GrpoSettings(), SftSettings()]))
def test_any_setting_is_of_its_type_or_refused_in_one_line(name, text, base):
    try:
        changed = change_settings(base, {name: parse_value(text)})
    except ValueError as error:
        assert type(error) is ValueError and "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert type(changed) is type(base) and digest(changed.to_config())
        assert all(isinstance(value, float) for value in (changed.learning_rate, changed.max_grad_norm))
        assert all(math.isfinite(value) for value in changed.to_config().values() if isinstance(value, float))
        assert not isinstance(changed.save_steps, bool) and changed.save_steps >= (
            1 if isinstance(base, GrpoSettings) else -(10**30)
        )


BAD = [("steps", "x"), ("steps", "0"), ("learning_rate", "NaN"), ("execution.accumulation", "a"), ("kl", "\udcb7")]


@pytest.mark.parametrize(("name", "text"), BAD, ids=ascii)
def test_a_value_of_another_type_is_refused_before_any_work(name, text, capsys):
    assert name.split(".")[-1] in complaint(capsys, "plan", "--profile", "qwen2.5-vl-7b", "-p", name, text)


def test_a_colocated_vllm_has_room_for_the_longest_question_and_answer():
    """Not for the model's whole context, 128,000 tokens of Qwen2.5-VL's, which no small GPU has room for."""
    served = GrpoSettings(max_completion_length=100, execution=Execution(vllm="colocate"))
    assert with_context(served, Lengths(760, 100, 512)).execution.vllm_context == 860
    said = replace(served, execution=Execution(vllm="colocate", vllm_context=2000))
    assert with_context(said, Lengths(760, 100, 512)) == said
    assert with_context(GrpoSettings(), Lengths(760, 100, 512)) == GrpoSettings() and with_context(
        SftSettings(), Lengths(7, 1, 5)
    )


def test_a_training_killed_while_it_wrote_a_checkpoint_logs_no_step_twice(toybox_folder, runs_folder, monkeypatch):
    """It goes on from the last whole one; the rows since then are written again, not once more."""
    words = ["train", "--profile", "tiny", "--data", str(toybox_folder), *SMALL, "-p", "steps", "3", "--label", "killed"]
    seal = checkpoints.seal

    def seal_the_first(path):
        if number_of(path) > 1:
            raise OSError("killed here")
        seal(path)

    monkeypatch.setattr(checkpoints, "seal", seal_the_first)
    assert cli.main(words) != 0
    folder = runs_folder / "models" / "training" / "killed"
    assert [path.name for path in sorted((folder / "checkpoints").glob("checkpoint-*"))] == ["checkpoint-1", "checkpoint-2"]
    monkeypatch.setattr(checkpoints, "seal", seal)
    assert cli.main(words) == 0
    assert [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
