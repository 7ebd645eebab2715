"""Shapes of published models: sums of transformers' own classes against the numbers on the models' pages."""

import pytest
from random_checkpoint import write_checkpoint

from vr1kit.models import load_policy
from vr1kit.scale.shapes import SHAPES, build_config, count_parameters

PUBLISHED = {  # safetensors metadata of the hub
    "qwen2-vl-2b": 2_208_985_600, "qwen2-vl-7b": 8_291_375_616, "qwen2.5-vl-3b": 3_754_622_976, "qwen2.5-vl-7b": 8_292_166_656,
    "qwen2.5-vl-32b": 33_452_718_336, "qwen3-vl-8b": 8_767_123_696,
    "tiny-gpu": 51_332_096,  # ours
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_the_published_number_of_parameters(name):
    counts = count_parameters(build_config(name))
    assert counts.total == PUBLISHED[name]
    assert (counts.head == 0) == SHAPES[name].tied and 0.99 < counts.linear / counts.layers < 1


def test_counts_are_those_of_a_loaded_model(tmp_path):
    model = load_policy(write_checkpoint("tiny:qwen3_vl", tmp_path)).model
    assert count_parameters(model.config).total == sum(p.numel() for p in model.parameters())


def test_the_policy_for_one_gpu_is_of_the_planned_size(tmp_path):
    model = load_policy(write_checkpoint("tiny-gpu", tmp_path)).model
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(PUBLISHED["tiny-gpu"], rel=0.01)  # its words may change


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="shape 'qwen9' is not known; take one of: qwen2-vl-2b"):
        build_config("qwen9")
