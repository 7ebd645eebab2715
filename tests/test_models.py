"""Families by randomly initialised checkpoints of the real classes, saved to disk and loaded by path."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_checkpoint import write_checkpoint

from vr1kit.data import Part, curate, read_coco, to_dataset
from vr1kit.decoding import generate, supports_shared_prompts
from vr1kit.evaluate import answer_greedily, prepare_inputs
from vr1kit.families import FAMILIES
from vr1kit.grpo import train_grpo
from vr1kit.models import PolicyError, load_policy, save_policy
from vr1kit.scenes import draw_scene
from vr1kit.settings import GrpoSettings, SftSettings
from vr1kit.sft import train_sft

CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
STEP = GrpoSettings(steps=1, prompts_per_step=2, num_generations=2, max_completion_length=6, warmup_steps=0)


@pytest.fixture(scope="module", params=CLASSES)
def checkpoint(request, tmp_path_factory):
    return write_checkpoint(f"tiny:{request.param}", tmp_path_factory.mktemp("checkpoints") / request.param)


@pytest.fixture
def policy(checkpoint):
    return load_policy(checkpoint)


def test_class_space_and_tokens_of_each_family(policy, checkpoint):
    assert type(policy.model).__name__ == CLASSES[checkpoint.name]
    assert policy.family is FAMILIES[checkpoint.name] and policy.model.dtype == torch.float32
    image, text = draw_scene("toybox", 0).image, "Locate 123"
    inputs = prepare_inputs(policy, [image], [text])
    assert int((inputs["input_ids"] == policy.model.config.image_token_id).sum()) == policy.count_image_tokens(*image.size)
    assert policy.input_size(*image.size)[0] % policy.family.factor == 0
    box = np.array([[20.0, 30, 100, 90]])
    written, (width, height) = policy.write_boxes(box, *image.size)
    answer = policy.family.write(written, ["star"])
    parsed = policy.read_answer(answer, *image.size)
    assert parsed.dual_format == 1 and np.abs(policy.read_boxes(parsed.boxes_xyxy, *image.size) - box).max() <= 192 / width
    assert [policy.tokenizer.decode([i]) for i in policy.tokenizer("57")["input_ids"]] == ["5", "7"]  # as Qwen's: digit by digit


def test_shared_prompts_give_what_transformers_gives(policy):
    assert supports_shared_prompts(policy.model)
    inputs = prepare_inputs(policy, [draw_scene("toybox", i).image for i in (0, 1)], ["a", "bc"])
    with torch.no_grad():
        ours, _ = generate(policy.model, inputs, max_new_tokens=8, eos_token_id=policy.tokenizer.eos_token_id)
        theirs = policy.model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :].tolist()
    for row, their_row in zip(ours, theirs, strict=True):
        assert row == their_row[: len(row)]


@pytest.fixture(scope="module")
def examples(toybox_folder):
    return curate({"toybox": read_coco(toybox_folder / "annotations.json")}, [Part("d", ("toybox",), "detection", 4)], seed=0)[0]


def make_dataset(policy, examples, root):
    return to_dataset([replace(e, prompt=policy.family.reword(e.prompt)) for e in examples], policy.write_boxes, root)


def test_training_and_answers_take_the_same_path(policy, checkpoint, examples, toybox_folder, tmp_path):
    dataset = make_dataset(policy, examples, toybox_folder)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    rows = []
    train_sft(
        policy, dataset, toybox_folder, SftSettings(epochs=1, batch=4, warmup_steps=0), tmp_path / "sft", rows.append, False
    )
    assert rows[-1]["loss"] > 0
    moved = {n for n, v in policy.model.state_dict().items() if not torch.equal(v, before[n])}
    assert moved and not any("visual" in n for n in moved)
    train_grpo(policy, dataset, toybox_folder, STEP, tmp_path / "grpo", rows.append, show=False)
    assert rows[-1]["step"] == 1 and np.isfinite(rows[-1]["loss"])
    again = load_policy(save_policy(policy, tmp_path / "model"))
    untouched = save_policy(load_policy(checkpoint), tmp_path / "untouched")
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (untouched / name).read_bytes(), "a training leaves no trace there"
    paths = [str(e.record.image_path) for e in examples[:2]]
    assert answer_greedily(again, paths, ["a", "a"], max_new_tokens=5) == answer_greedily(
        policy, paths, ["a", "a"], max_new_tokens=5
    )


def test_plain_text_answers_on_any_class(checkpoint, examples, toybox_folder, tmp_path):
    policy = load_policy(checkpoint, family="griffon")
    dataset = make_dataset(policy, examples, toybox_folder)
    assert dataset[0]["prompt"][0]["content"].startswith("Examine the image") and dataset[0]["size"] == [1000, 1000]
    rows = []
    train_grpo(policy, dataset, toybox_folder, STEP, tmp_path, rows.append, show=False)
    assert rows[0]["dual_format"] == 0
    with pytest.raises(ValueError, match="released reads JSON answers only"):
        train_grpo(policy, dataset, toybox_folder, replace(STEP, variant="released"), tmp_path / "x", show=False)


def test_pixel_bounds_are_the_familys_if_asked(checkpoint):
    policy = load_policy(checkpoint, bound_pixels=True)
    assert policy.count_image_tokens(4000, 3000) == policy.family.count_image_tokens(4000, 3000) <= 512


def test_dtype_and_attention(checkpoint):
    policy = load_policy(checkpoint, dtype="bfloat16", attention="eager")
    assert policy.model.dtype == torch.bfloat16 and policy.model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "llama"}, "family 'llama' is not known; known are qwen2_vl"),
        ({"dtype": "float99"}, "dtype 'float99'"),
        ({"attention": "flash_attention_2"}, r"needs the package flash_attn.*\[gpu\]"),
        ({"quantize": "4bit"}, r"needs the package bitsandbytes.*\[gpu\]"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(checkpoint, options, words):
    with pytest.raises(PolicyError, match=words) as error:
        load_policy(checkpoint, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json", "model.safetensors", "config.json"])
def test_a_missing_file_is_named(tmp_path, name):
    folder = write_checkpoint("tiny:qwen2_5_vl", tmp_path)
    (folder / name).unlink()
    with pytest.raises(PolicyError, match=name):
        load_policy(folder)


def test_a_missing_shard_and_a_missing_template_are_named(tmp_path):
    folder = write_checkpoint("tiny:qwen2_5_vl", tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(PolicyError, match="chat template"):
        load_policy(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {f"x{k}": f"model-0000{k}-of-00002.safetensors" for k in (1, 2)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(PolicyError, match="model-00002-of-00002.safetensors, one of 2 shards"):
        load_policy(folder)


def test_an_unknown_class_is_refused(tmp_path):
    folder = write_checkpoint("tiny:qwen2_5_vl", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llava"}))
    with pytest.raises(PolicyError, match="family 'llava' is not known"):
        load_policy(folder)
