"""Load a policy: a vision-language model, its processor, and how its family asks and answers.

    policy = load_policy("mixed")                 # a base policy that ships with the package
    policy = load_policy("Qwen/Qwen2.5-VL-7B-Instruct", dtype="bfloat16", revision="cc59489")
    policy = load_policy("runs/tiny/policies/mixed-seed0-vision_r1")
    policy = load_policy("my/checkpoint", family="griffon")    # answers in plain-text coordinates

Both base policies are real `Qwen2_5_VLForConditionalGeneration` checkpoints of 2 M parameters (`vr1kit.toy.tiny`); how they were made
is in `vr1kit.toy.pretrain` and in policies/README.md.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vr1kit.completions import ParsedCompletion
from vr1kit.coordinates import CoordinateSpace, convert_boxes_xyxy, round_boxes_xyxy, smart_resize, space_size
from vr1kit.families import FAMILIES, Family
from vr1kit.safekeeping.files import open_folder_atomic

POLICIES = Path(__file__).parent / "policies"
BASE_POLICIES = ("mixed", "converged")
# What a folder must hold: of each row one.
PARTS = {
    "configuration": ("config.json",),
    "weights": ("model.safetensors", "model.safetensors.index.json"),  # no pickles
    "tokenizer": ("tokenizer.json", "vocab.json", "tokenizer.model"),
    "image processor": ("preprocessor_config.json", "processor_config.json"),
}
EXTRAS = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "4bit": "bitsandbytes",
    "8bit": "bitsandbytes",
}


class PolicyError(ValueError):
    """A policy cannot be loaded; the message says which and what to do, in one line."""


@dataclass
class Policy:
    """A model, its processor and its family's conventions."""

    name: str
    model: torch.nn.Module
    processor: object
    family: Family
    config: object = None  # transformers' configuration, as loaded

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    @property
    def space(self) -> CoordinateSpace:
        return self.family.answers

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which the model sees a picture of that size."""
        ip = self.processor.image_processor
        bounds = {"min_pixels": ip.size["shortest_edge"], "max_pixels": ip.size["longest_edge"]}
        return smart_resize(width, height, ip.patch_size * ip.merge_size, **bounds)

    def count_image_tokens(self, width: int, height: int) -> int:
        """Visual tokens that a picture of that size costs."""
        wide, high = self.input_size(width, height)
        ip = self.processor.image_processor
        return wide * high // (ip.patch_size * ip.merge_size) ** 2

    def write_boxes(self, boxes_xyxy_px: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[float, float]]:
        """Picture pixels -> integers as the policy answers, and the (width, height) of that space."""
        resized = self.input_size(width, height)
        size = space_size(self.space, (width, height), resized)
        converted = convert_boxes_xyxy(boxes_xyxy_px, CoordinateSpace.PIXELS, self.space, (width, height), resized)
        return round_boxes_xyxy(converted, size), size

    def read_boxes(self, boxes_xyxy: np.ndarray, width: int, height: int) -> np.ndarray:
        """Boxes of an answer -> picture pixels."""
        return convert_boxes_xyxy(boxes_xyxy, self.space, CoordinateSpace.PIXELS, (width, height), self.input_size(width, height))

    def read_answer(self, text: str, width: int, height: int) -> ParsedCompletion:
        """An answer about a picture of that size, boxes in the space the policy answers in."""
        return self.family.parse(text, space_size(self.space, (width, height), self.input_size(width, height)))


def load_policy(
    name: str | Path,
    dtype: str = "float32",
    revision: str | None = None,
    *,
    family: str | None = None,
    attention: str | None = None,
    quantize: str = "",
    bound_pixels: bool = False,
    weights: bool = True,
) -> Policy:
    """Load a base policy by name, a folder, or a hub model.

    revision      a commit or tag of a hub model, to pin it
    family        of FAMILIES, where it is not told by the model's class (griffon)
    attention     transformers' attn_implementation: sdpa, eager, flash_attention_2; None: its own choice
    quantize      "4bit" or "8bit" by bitsandbytes (QLoRA); "": not
    bound_pixels  the family's bounds on a picture's size instead of the checkpoint's, which are made for much more memory
    weights       False: configuration and processor only, to check what can be checked without

    Weights are read from safetensors only, and no code that comes with a model is run.
    Raises PolicyError for a checkpoint that is missing, incomplete or corrupt, a family not known, and a package not installed.
    """
    from transformers import AutoConfig, BitsAndBytesConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # one bar per small file says nothing
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise PolicyError(f"policy '{name}': dtype '{dtype}' is not known; take float32, bfloat16 or float16")
    if family is not None and family not in FAMILIES:
        raise PolicyError(f"policy '{name}': model family '{family}' is not known; known are {', '.join(FAMILIES)}")
    for wish in filter(None, (attention, quantize)):
        require_extra(wish, f"policy '{name}'")
    path = POLICIES / name if str(name) in BASE_POLICIES else Path(name)
    if not path.exists() and str(name).count("/") != 1:
        raise PolicyError(
            f"policy '{name}': no such folder; base policies are {', '.join(BASE_POLICIES)}, hub names are owner/model"
        )
    source = str(path) if path.exists() else str(name)
    if path.exists() and (missing := find_missing(path)):
        what = f"{path} has no {missing}; give a folder written by save_policy or save_pretrained"
        raise PolicyError(f"policy '{name}': {what}")
    options: dict = {"dtype": getattr(torch, dtype), "revision": revision, "use_safetensors": True, "trust_remote_code": False}
    if attention:
        options["attn_implementation"] = attention
    if quantize:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=quantize == "4bit", load_in_8bit=quantize == "8bit", bnb_4bit_quant_type="nf4",  # QLoRA paper, Sec. 3
            bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=getattr(torch, dtype),
            llm_int8_skip_modules=["model.visual", "lm_head"],  # ours: the tower sees the edges, and is a tenth of the model
        )  # fmt: skip
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        if config.model_type not in FAMILIES:
            raise PolicyError(
                f"policy '{name}': model family '{config.model_type}' is not known; known are {', '.join(FAMILIES)}"
            )
        model = _load_weights(name, source, options) if weights else None
        policy = Policy(str(name), model, _load_processor(source, revision), FAMILIES[family or config.model_type], config)
    except PolicyError:
        raise
    except Exception as error:  # safetensors, json and hub errors have no common base
        message = " ".join(str(error).split())[:200]
        raise PolicyError(f"policy '{name}': cannot be loaded from {source} ({type(error).__name__}: {message})") from error
    if policy.tokenizer.chat_template is None and policy.processor.chat_template is None:
        raise PolicyError(f"policy '{name}': {source} has no chat template; add chat_template.jinja, as instruct models have it")
    if bound_pixels:
        bounds = policy.family.min_pixels, policy.family.max_pixels
        policy.processor.image_processor.size = dict(zip(("shortest_edge", "longest_edge"), bounds, strict=True))
    return policy


def _load_weights(name: str | Path, source: str, options: dict):
    from transformers import AutoModelForImageTextToText

    model, loaded = AutoModelForImageTextToText.from_pretrained(source, output_loading_info=True, **options)
    if missing := sorted(loaded["missing_keys"]):  # transformers would begin with random numbers there
        raise PolicyError(f"policy '{name}': {len(missing)} weights are missing in {source}, e.g. {missing[0]}; fetch it again")
    return model


def require_extra(wish: str, what: str) -> None:
    """Raises PolicyError if a wish such as flash_attention_2 or 4bit needs a package that is not installed."""
    package = EXTRAS.get(wish)
    if package and importlib.util.find_spec(package) is None:
        raise PolicyError(f'{what}: {wish} needs the package {package}, which is not installed; pip install -e ".[gpu]"')


def find_missing(folder: Path) -> str | None:
    """The first file that a checkpoint's folder lacks, shards of its weights included; None: it is whole."""
    for part, names in PARTS.items():
        there = [folder / name for name in names if (folder / name).is_file()]
        if not there:
            return f"{names[0]} ({part})"
        if there[0].name.endswith(".index.json"):
            shards = sorted(set(json.loads(there[0].read_text(encoding="utf-8"))["weight_map"].values()))
            for shard in shards:
                if not (folder / shard).is_file():
                    return f"{shard}, one of {len(shards)} shards of its weights"
    return None


def _load_processor(source: str, revision: str | None):
    """The ordinary processor where torchvision is installed; else, and always for the tiny policy, its image half alone."""
    from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from vr1kit.toy.tiny import ImageProcessorOnly

    config = Path(source) / "tokenizer_config.json"
    own = config.exists() and json.loads(config.read_text()).get("tokenizer_class") != "Qwen2Tokenizer"
    if not own and importlib.util.find_spec("torchvision"):
        return AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
    tokenizer = (PreTrainedTokenizerFast if own else AutoTokenizer).from_pretrained(
        source, revision=revision, padding_side="left"
    )
    return ImageProcessorOnly(Qwen2VLImageProcessorPil.from_pretrained(source, revision=revision), tokenizer)


def save_policy(policy: Policy, folder: str | Path) -> Path:
    """Write weights (safetensors) and processor, so that `load_policy(folder)` gives the policy back."""
    folder = Path(folder)
    model = policy.model.merge_and_unload() if hasattr(policy.model, "merge_and_unload") else policy.model
    with open_folder_atomic(folder) as new:
        model.save_pretrained(new)
        save_processor(policy, new)
    return folder


def save_processor(policy: Policy, folder: Path) -> None:
    """Write tokenizer and image processor beside the weights: the same bytes whatever was tokenized before."""
    tokenizer = policy.processor.tokenizer
    if backend := getattr(tokenizer, "backend_tokenizer", None):
        backend.no_padding()  # every call sets these anew; they would be written as the last one left them
        backend.no_truncation()
    tokenizer.save_pretrained(folder)
    policy.processor.image_processor.save_pretrained(folder)


def freeze_tower(model) -> None:
    """Stop learning in the vision tower, merger included (ours: it steadies and speeds reinforcement at this size)."""
    visual = getattr(model, "visual", None) or model.model.visual
    visual.requires_grad_(False)
