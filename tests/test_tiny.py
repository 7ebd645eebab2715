import numpy as np
import pytest
import torch
from PIL import Image

from vr1kit.models import BASE_POLICIES, PolicyError, load_policy, save_policy
from vr1kit.prompts import ask_detection, ask_grounding, write_answer
from vr1kit.scenes import DOMAINS, ask_question, draw_scene
from vr1kit.toy.instruction import to_patches
from vr1kit.toy.tiny import SIDE, build_image_processor, build_tokenizer

BOXES, LABELS = np.array([[4, 10, 30, 41], [50, 8, 57, 17], [60, 60, 90, 90]], float), ["star", "fish", "car"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_text_decodes_back_exactly(tokenizer):
    texts = [write_answer(BOXES, LABELS), ask_grounding("fish"), "Sure! []", "any ASCII text, 123 ~"]
    texts += [ask_detection(d.labels) for d in DOMAINS.values()]
    texts += [ask_question(draw_scene("toybox", s), s).question for s in range(20)]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids


def test_a_box_costs_six_tokens(tokenizer):
    one, two = (len(tokenizer(write_answer(BOXES[:n], LABELS[:n]))["input_ids"]) for n in (1, 2))
    assert two - one == 6


def test_patches_equal_the_image_processors():
    pixels = np.stack([np.asarray(draw_scene("toybox", s).image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for s in (0, 1)])
    theirs = build_image_processor()([Image.fromarray(p) for p in pixels], return_tensors="pt")["pixel_values"]
    assert torch.equal(to_patches(pixels), theirs)


def test_the_processor_shrinks_a_scene_to_the_models_side():
    out = build_image_processor()([draw_scene("toybox", 0).image], return_tensors="pt")
    assert out["image_grid_thw"].tolist() == [[1, 12, 12]]


def test_a_saved_policy_comes_back(random_policy, tmp_path):
    save_policy(random_policy, tmp_path / "p")
    again = load_policy(tmp_path / "p")
    for (name, a), b in zip(random_policy.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert again.input_size(192, 192) == (96, 96) and again.space == random_policy.space
    boxes, size = again.write_boxes(np.array([[10.0, 20, 50, 61]]), 192, 192)
    assert size == (96, 96) and boxes.tolist() == [[5, 10, 25, 31]]
    assert again.read_boxes(boxes, 192, 192).tolist() == [[10, 20, 50, 62]]


def test_bad_checkpoints_are_refused_in_one_line(random_policy, tmp_path):
    save_policy(random_policy, tmp_path / "p")
    weights = tmp_path / "p" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "empty").mkdir()
    for bad, words in ((tmp_path / "p", "cannot be loaded"), (tmp_path / "empty", "config.json"), ("nowhere", "no such folder")):
        with pytest.raises(PolicyError, match=words) as error:
            load_policy(bad)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", BASE_POLICIES)
def test_base_policies_are_small_real_and_answer(name):
    from vr1kit.models import POLICIES

    assert (POLICIES / name / "model.safetensors").stat().st_size < 10_000_000
    policy = load_policy(name)
    assert type(policy.model).__name__ == "Qwen2_5_VLForConditionalGeneration"
