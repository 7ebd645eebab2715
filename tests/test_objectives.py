"""Objectives and execution as fields: what they become in trl, and that how a step is run does not change what it does."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vr1kit import grpo, monitor
from vr1kit.data import Part, curate, read_coco, to_dataset
from vr1kit.settings import LOSSES, Execution, GrpoSettings, SftSettings

SETTINGS = GrpoSettings(
    steps=2, prompts_per_step=2, num_generations=2, max_completion_length=8, warmup_steps=0, learning_rate=1e-3, save_steps=100
)


@pytest.fixture(scope="module")
def dataset(toybox_folder, random_policy):
    examples, _ = curate(
        {"toybox": read_coco(toybox_folder / "annotations.json")}, [Part("d", ("toybox",), "detection", 8)], seed=0
    )
    return to_dataset(examples, random_policy.write_boxes, toybox_folder)


@pytest.fixture
def trained(random_policy, dataset, toybox_folder, tmp_path, monkeypatch):
    """Train the random policy with some settings, rewarded by the length of its text: (weights, rows, trainer)."""

    def score(self, completions, **_):
        return [SimpleNamespace(dual_format=len(str(c)) % 5 / 5, recall=0.0, precision=0.0) for c in completions]

    monkeypatch.setattr(grpo.Rewards, "_scores", score)
    made = []
    original = grpo.VisionR1Trainer.__init__
    monkeypatch.setattr(grpo.VisionR1Trainer, "__init__", lambda self, *a, **k: (original(self, *a, **k), made.append(self))[0])

    def run(**changes):
        policy, rows = replace(random_policy, model=copy.deepcopy(random_policy.model)), []
        folder = tmp_path / str(len(made))
        folder.mkdir()
        grpo.train_grpo(policy, dataset, toybox_folder, replace(SETTINGS, **changes), folder, rows.append, show=False)
        return policy.model.state_dict(), rows, made[-1]

    return run


@pytest.mark.parametrize(("name", "loss", "level"), [(n, *v) for n, v in LOSSES.items()])
def test_each_loss_by_name(name, loss, level, tmp_path):
    config = grpo.grpo_config(
        replace(SETTINGS, loss_type=name, kl="k3_unbiased", epsilon_high=0.3, mask_cut_off=True), tmp_path, [1, 1, 1]
    )
    assert (config.loss_type, config.importance_sampling_level) == (loss, level)
    assert config.use_bias_correction_kl and config.epsilon_high == 0.3 and config.mask_truncated_completions


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_trains(trained, random_policy, name):
    weights, rows, _ = trained(loss_type=name)
    assert len(rows) == 2 and all(torch.isfinite(v).all() for v in weights.values())
    assert any(not torch.equal(v, weights[n]) for n, v in random_policy.model.state_dict().items())


def test_no_reference_at_beta_0_and_none_with_adapters(trained):
    assert trained(steps=1)[2].ref_model is None
    _, rows, trainer = trained(steps=2, beta=0.1, lora_rank=2)
    assert trainer.ref_model is None and rows[0]["kl"] == 0 < rows[1]["kl"]  # the adapter, switched off, is the reference


def test_a_policy_that_does_not_move_has_no_distance_from_its_reference(trained):
    """The reference must be asked about the same prompts in every step, not only in the first, where nothing was shuffled yet."""
    _, rows, _ = trained(steps=3, beta=0.1, learning_rate=0.0, prompts_per_step=4, lora_rank=2)
    assert [r["kl"] for r in rows] == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("execution", [Execution(accumulation=2), Execution(activation_checkpointing=True)])
def test_how_a_step_is_run_does_not_change_it(trained, execution):
    weights, rows, _ = trained(loss_type="dapo", steps=1)
    others, other_rows, _ = trained(loss_type="dapo", steps=1, execution=execution)
    assert other_rows[0]["grad_norm"] == pytest.approx(rows[0]["grad_norm"], rel=1e-3)
    for name, value in weights.items():
        assert (others[name] - value).abs().max() < 2.1e-3, name  # at most one step of Adam's, where a gradient is rounding


def test_the_tower_may_learn_at_its_own_pace(trained, random_policy):
    before = random_policy.model.state_dict()
    weights, _, trainer = trained(train_tower=True, tower_learning_rate=0.0)
    moved = {name for name, value in weights.items() if not torch.equal(value, before[name])}
    assert moved and not any("visual" in name for name in moved)
    assert sorted({g["initial_lr"] for g in trainer.optimizer.param_groups}) == [0.0, 1e-3]
    weights, _, _ = trained(train_tower=True)
    assert any("visual" in name for name, value in weights.items() if not torch.equal(value, before[name]))


def test_a_hopeless_run_stops_if_it_may(trained, monkeypatch):
    monkeypatch.setattr(monitor, "WINDOW", 2)
    monkeypatch.setattr(
        grpo.Rewards,
        "_scores",
        lambda self, completions, **_: [SimpleNamespace(dual_format=0.0, recall=0.0, precision=0.0)] * len(completions),
    )
    _, rows, _ = trained(steps=5)
    assert len(rows) == 5
    _, rows, trainer = trained(steps=5, stop_hopeless=True)
    assert len(rows) == 2
    findings = (Path(trainer.args.output_dir).parent / "findings.jsonl").read_text()
    assert "no_signal" in findings and "begin with SFT" in findings


def test_the_order_of_an_epoch_does_not_depend_on_having_seen_the_ones_before():
    from trl.trainer.utils import RepeatSampler

    stock = RepeatSampler(range(7), 2, batch_size=3, seed=5)
    undisturbed = [list(stock) for _ in range(4)]
    ours = grpo.EpochSampler(range(7), 2, batch_size=3, seed=5)
    for epoch in (2, 0, 3, 1):
        ours.set_epoch(epoch)
        assert list(ours) == undisturbed[epoch]
    assert undisturbed[0] != undisturbed[1]


def test_unknown_values_are_refused():
    for bad in ({"loss_type": "ppo"}, {"kl": "k9"}, {"scale_rewards": "all"}, {"num_generations": 1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            GrpoSettings(**bad)
    for bad in ({"precision": "int3"}, {"vllm": "maybe"}, {"accumulation": 0}, {"trackers": ("paper",)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Execution(**bad)


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch, tmp_path):
    from vr1kit.training import execution_options

    monkeypatch.setenv("WORLD_SIZE", "4")
    assert execution_options(SftSettings(batch=32), 32, tmp_path)["per_device_train_batch_size"] == 8
    with pytest.raises(ValueError, match="30 rows cannot be shared by 4 processes x 1"):
        execution_options(SftSettings(), 30, tmp_path)
