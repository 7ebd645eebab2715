"""Shared fixtures: a small random policy of the real class, and a few scenes on disk."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def random_policy():
    """The tiny architecture with random weights: enough for every test of equality."""
    import torch

    from vr1kit.families import FAMILIES
    from vr1kit.models import Policy
    from vr1kit.toy.tiny import build_model, build_processor

    torch.manual_seed(0)
    processor = build_processor()
    model = build_model(processor.tokenizer).eval()
    for parameter in model.parameters():  # initial weights are so small that every answer is alike
        parameter.data += 0.05 * torch.randn_like(parameter)
    return Policy("random", model, processor, FAMILIES["qwen2_5_vl"])


@pytest.fixture(scope="session")
def toybox_folder(tmp_path_factory):
    from vr1kit.scenes import write_scenes

    folder = tmp_path_factory.mktemp("scenes") / "toybox"
    write_scenes(folder, "toybox", range(8))
    return folder
