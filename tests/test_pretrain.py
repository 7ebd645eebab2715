import json
from dataclasses import replace

import pytest
import torch

from vr1kit.models import load_policy
from vr1kit.toy import pretrain
from vr1kit.toy.instruction import draw_pictures
from vr1kit.toy.pretrain import build_head, coordinate_miss, list_coordinate_ids, make_base_policies, plan_stages, train_stage
from vr1kit.toy.tiny import build_model, build_tokenizer


def test_the_miss_of_a_coordinate_is_in_pixels():
    tokenizer = build_tokenizer()
    ids = list_coordinate_ids(tokenizer)
    logits = torch.full((3, len(tokenizer)), -50.0)
    logits[0, ids[0, 40]] = 0.0  # sure of 40, true is 43: 3 px
    logits[1, ids[1, 10]] = logits[1, ids[1, 20]] = 0.0  # 10 or 20, true is 15: expected 15, 0 px
    labels = torch.tensor([ids[0, 43], ids[1, 15], tokenizer.eos_token_id])  # the last is no coordinate
    assert float(coordinate_miss(logits, labels, ids)) == pytest.approx(1.5, abs=1e-4)
    assert float(coordinate_miss(logits[2:], labels[2:], ids)) == 0.0


def test_a_stage_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 8)
    pool, tokenizer = draw_pictures(tmp_path / "pictures", 8, workers=1), build_tokenizer()
    stage = replace(plan_stages(0, 16, 0)[1], batch=2)

    def train(stop_at, partial_path):
        torch.manual_seed(0)
        model = build_model(tokenizer, vision=32, vision_depth=1, text=64, text_depth=1)
        head, rows = build_head(model), []
        if stop_at:
            monkeypatch.setattr(pretrain, "_average_gradients", _stopping(stop_at))
            with pytest.raises(KeyboardInterrupt):
                train_stage(stage, model, head, tokenizer, pool, 0, rows.append, partial_path)
            monkeypatch.setattr(pretrain, "_average_gradients", lambda parameters: None)
            model = build_model(tokenizer, vision=32, vision_depth=1, text=64, text_depth=1)
        train_stage(stage, model, head, tokenizer, pool, 0, rows.append, partial_path)
        return model.state_dict()

    undisturbed, resumed = train(None, tmp_path / "a.pt"), train(11, tmp_path / "b.pt")
    for name, value in undisturbed.items():
        assert torch.equal(value, resumed[name]), name


def _stopping(at):
    steps = []

    def average(parameters):
        steps.append(1)
        if len(steps) == at:
            raise KeyboardInterrupt

    return average


@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_makes_both_policies_and_its_log(tmp_path, processes, monkeypatch):
    make_base_policies(tmp_path, 16, 2, 2, 2, processes=processes)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in rows] == ["warm_up", "converged", "mixed"]
    assert all((tmp_path / name / "model.safetensors").stat().st_size < 10e6 for name in ("converged", "mixed"))
    make_base_policies(tmp_path, 16, 2, 2, 2, processes=processes)  # all stages are there: nothing is trained again
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


def test_a_folder_of_another_size_and_processes_that_share_a_gpu_are_refused(tmp_path):
    make_base_policies(tmp_path, 16, 1, 1, 1, processes=1, batch=2)
    with pytest.raises(ValueError, match="width 128, size 'tiny-gpu' has 512"):
        make_base_policies(tmp_path, 16, 1, 1, 1, processes=1, size="tiny-gpu")
    with pytest.raises(ValueError, match="processes must be 1 on cuda, got 2"):
        make_base_policies(tmp_path / "other", 16, 1, 1, 1, device="cuda")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_the_larger_size_is_made_the_same_way(tmp_path):
    make_base_policies(tmp_path, 16, 1, 1, 1, processes=1, batch=2, size="tiny-gpu")
    policy = load_policy(tmp_path / "mixed")
    assert sum(p.numel() for p in policy.model.parameters()) > 50e6
