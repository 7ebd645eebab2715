"""Adapters and their base put together: what peft's own merging gives, and what a base in 4 bits answers."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from random_checkpoint import write_checkpoint

from vr1kit.adapters import lora_config, merge_state, save_merged
from vr1kit.data import Part, curate, read_coco, to_dataset
from vr1kit.evaluate import answer_greedily, prepare_inputs
from vr1kit.grpo import train_grpo
from vr1kit.models import load_policy
from vr1kit.scenes import draw_scene
from vr1kit.settings import Execution, GrpoSettings


@pytest.fixture(scope="module", params=("qwen2_vl", "qwen2_5_vl", "qwen3_vl"))
def checkpoint(request, tmp_path_factory):
    return write_checkpoint(f"tiny:{request.param}", tmp_path_factory.mktemp("adapters") / request.param)


def adapt(model):
    """With adapters that have learnt something."""
    from peft import get_peft_model

    adapted = get_peft_model(model, lora_config(2))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter)
    return adapted


def test_no_adapters_when_the_rank_is_0(checkpoint):
    assert lora_config(0) is None
    model = load_policy(checkpoint).model
    assert merge_state(model, model.state_dict()).keys() == model.state_dict().keys()


def test_merged_weights_are_those_that_peft_merges(checkpoint, tmp_path):
    adapted = adapt(load_policy(checkpoint).model)
    state = {name: value.clone() for name, value in adapted.state_dict().items()}
    ours = merge_state(adapted, state)
    save_merged(adapted, state, tmp_path / "written")
    assert all(torch.equal(value, state[name]) for name, value in adapted.state_dict().items()), "the model that trains stays"
    theirs = adapted.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, atol=1e-5), name
    base = load_policy(checkpoint).model.state_dict()
    assert {n.rsplit(".", 2)[-2] for n in theirs if not torch.equal(ours[n], base[n])} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    again = type(adapted.get_base_model() if hasattr(adapted, "get_base_model") else load_policy(checkpoint).model)
    for name, value in again.from_pretrained(tmp_path / "written").state_dict().items():
        assert torch.allclose(value, theirs[name], atol=1e-5), name


def test_a_base_in_4_bits_learns_and_is_written_as_what_it_stands_for(checkpoint, toybox_folder, tmp_path, monkeypatch):
    """On the CPU, where bitsandbytes is installed, which the pinned environment leaves out."""
    modules = pytest.importorskip("bitsandbytes.nn.modules")
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: False)  # its packed CPU kernel adds in place to what has a gradient
    policy = load_policy(checkpoint, dtype="bfloat16", quantize="4bit")
    before = copy.deepcopy(policy.model.state_dict())
    packed = [name for name, value in before.items() if value.dtype == torch.uint8 and name.endswith("proj.weight")]
    assert packed and not any("visual" in name for name in packed), "all of the text half, none of the tower"
    examples, _ = curate({"toybox": read_coco(toybox_folder / "annotations.json")}, [Part("d", ("toybox",), "detection", 4)], 0)
    examples = [replace(e, prompt=policy.family.reword(e.prompt)) for e in examples]
    dataset = to_dataset(examples, policy.write_boxes, toybox_folder)
    settings = GrpoSettings(
        steps=2, prompts_per_step=2, num_generations=2, max_completion_length=6, warmup_steps=0, learning_rate=1e-2, lora_rank=2,
        beta=0.1, execution=Execution(precision="bfloat16", activation_checkpointing=True),
    )  # fmt: skip
    rows = []
    train_grpo(policy, dataset, toybox_folder, settings, tmp_path / "run", rows.append, False, save_to=tmp_path / "model")
    assert [r["step"] for r in rows] == [1, 2] and rows[0]["kl"] == 0  # the adapter, switched off, is the reference
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())
    again = load_policy(tmp_path / "model", dtype="bfloat16")
    inputs = prepare_inputs(policy, [draw_scene("toybox", 0).image], ["Locate"])
    with torch.no_grad():
        ours, theirs = again.model(**inputs).logits.float(), policy.model.eval()(**inputs).logits.float()
    assert (ours - theirs).abs().max() < 0.1 * theirs.abs().max()
    assert answer_greedily(again, [str(examples[0].record.image_path)], ["a"], max_new_tokens=3)
