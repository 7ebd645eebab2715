"""Load a policy: a vision-language model, its processor, and how it writes coordinates.

    policy = load_policy("mixed")                 # a base policy that ships with the package
    policy = load_policy("Qwen/Qwen2.5-VL-7B-Instruct", dtype="bfloat16")
    policy = load_policy("runs/tiny/policies/mixed-seed0-vision_r1")

Both base policies are real `Qwen2_5_VLForConditionalGeneration` checkpoints of 2 M parameters (`vr1kit.tiny`); how they were made
is in `vr1kit.pretrain` and in policies/README.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vr1kit.coordinates import FAMILIES, CoordinateSpace, convert_boxes_xyxy, round_boxes_xyxy, smart_resize, space_size
from vr1kit.files import open_folder_atomic

POLICIES = Path(__file__).parent / "policies"
BASE_POLICIES = ("mixed", "converged")


class PolicyError(ValueError):
    """A policy cannot be loaded; the message says which and what to do, in one line."""


@dataclass
class Policy:
    """A model, its processor and its family's conventions."""

    name: str
    model: torch.nn.Module
    processor: object
    space: CoordinateSpace

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which the model sees a picture of that size."""
        ip = self.processor.image_processor
        bounds = {"min_pixels": ip.size["shortest_edge"], "max_pixels": ip.size["longest_edge"]}
        return smart_resize(width, height, ip.patch_size * ip.merge_size, **bounds)

    def write_boxes(self, boxes_xyxy_px: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[float, float]]:
        """Picture pixels -> integers as the policy answers, and the (width, height) of that space."""
        resized = self.input_size(width, height)
        size = space_size(self.space, (width, height), resized)
        converted = convert_boxes_xyxy(boxes_xyxy_px, CoordinateSpace.PIXELS, self.space, (width, height), resized)
        return round_boxes_xyxy(converted, size), size

    def read_boxes(self, boxes_xyxy: np.ndarray, width: int, height: int) -> np.ndarray:
        """Boxes of an answer -> picture pixels."""
        return convert_boxes_xyxy(boxes_xyxy, self.space, CoordinateSpace.PIXELS, (width, height), self.input_size(width, height))


def load_policy(name: str | Path, dtype: str = "float32", revision: str | None = None) -> Policy:
    """Load a base policy by name, a folder, or a hub model.

    Weights are read from safetensors only, and no code that comes with a model is run. Raises PolicyError for a missing or
    corrupt checkpoint or a family not known.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()  # one bar per small file says nothing
    path = POLICIES / name if str(name) in BASE_POLICIES else Path(name)
    if not path.exists() and str(name).count("/") != 1:
        raise PolicyError(
            f"policy '{name}': no such folder; base policies are {', '.join(BASE_POLICIES)}, hub names are owner/model"
        )
    source = str(path) if path.exists() else str(name)
    if path.exists() and not (path / "config.json").exists():
        raise PolicyError(f"policy '{name}': {path} has no config.json; give a folder written by save_policy or save_pretrained")
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        if config.model_type not in FAMILIES:
            raise PolicyError(
                f"policy '{name}': model family '{config.model_type}' is not known; known are {', '.join(FAMILIES)}"
            )
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            source, dtype=getattr(torch, dtype), revision=revision, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
        if missing := sorted(loaded["missing_keys"]):  # transformers would begin with random numbers there
            raise PolicyError(
                f"policy '{name}': {len(missing)} weights are missing in {source}, e.g. {missing[0]}; fetch it again"
            )
        processor = _load_processor(source, revision)
    except PolicyError:
        raise
    except Exception as error:  # safetensors, json and hub errors have no common base
        message = " ".join(str(error).split())[:200]
        raise PolicyError(f"policy '{name}': cannot be loaded from {source} ({type(error).__name__}: {message})") from error
    return Policy(str(name), model, processor, FAMILIES[config.model_type].answers)


def _load_processor(source: str, revision: str | None):
    """The image half alone for the tiny policy (no torchvision for its torch); otherwise the ordinary processor."""
    tokenizer_config = Path(source) / "tokenizer_config.json"
    if tokenizer_config.exists() and json.loads(tokenizer_config.read_text()).get("tokenizer_class") != "Qwen2Tokenizer":
        from transformers import PreTrainedTokenizerFast
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        from vr1kit.tiny import ImageProcessorOnly

        return ImageProcessorOnly(
            Qwen2VLImageProcessorPil.from_pretrained(source), PreTrainedTokenizerFast.from_pretrained(source)
        )
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)


def save_policy(policy: Policy, folder: str | Path) -> Path:
    """Write weights (safetensors) and processor, so that `load_policy(folder)` gives the policy back."""
    folder = Path(folder)
    model = policy.model.merge_and_unload() if hasattr(policy.model, "merge_and_unload") else policy.model
    with open_folder_atomic(folder) as new:
        model.save_pretrained(new)
        policy.processor.tokenizer.save_pretrained(new)
        policy.processor.image_processor.save_pretrained(new)
    return folder


def freeze_tower(model) -> None:
    """Stop learning in the vision tower, merger included (ours: it steadies and speeds reinforcement at this size)."""
    visual = getattr(model, "visual", None) or model.model.visual
    visual.requires_grad_(False)
