"""Shapes of published models: the numbers of their configurations, without their weights.

    config = build_config("qwen2.5-vl-7b")           # transformers' own configuration class
    counts = count_parameters(config)                # by part, on the meta device: no memory

`vr1kit plan` computes with them, and benchmarks/random_checkpoint.py fills them with random weights. Sizes are those of the
models' config.json; tests/test_shapes.py compares the sums with the numbers of parameters their publishers state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vr1kit.families import FAMILIES

# Qwen2's tokenizer; the same in all three families.
TOKENS = {"image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652, "vision_end_token_id": 151653}


@dataclass(frozen=True)
class Shape:
    """What makes one published model the size it is."""

    model_type: str  # of FAMILIES
    hub: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    tied: bool
    vision: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)  # what differs from the family's own tower
    head_size: int = 128


_VISION = {
    "qwen2_vl": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "patch_size": 14},
    "qwen2_5_vl": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14, "window_size": 112,
        "fullatt_block_indexes": (7, 15, 23, 31),
    },
    "qwen3_vl": {
        "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
        "num_position_embeddings": 2304, "deepstack_visual_indexes": (8, 16, 24),
    },
}  # fmt: skip
_ROPE = {  # theta, split over time, height and width
    "qwen2_vl": {"rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "qwen2_5_vl": {"rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "qwen3_vl": {"rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True},
}

SHAPES = {
    "qwen2-vl-2b": Shape("qwen2_vl", "Qwen/Qwen2-VL-2B-Instruct", 1536, 8960, 28, 12, 2, 151936, 32768, True),
    "qwen2-vl-7b": Shape("qwen2_vl", "Qwen/Qwen2-VL-7B-Instruct", 3584, 18944, 28, 28, 4, 152064, 32768, False),
    "qwen2.5-vl-3b": Shape("qwen2_5_vl", "Qwen/Qwen2.5-VL-3B-Instruct", 2048, 11008, 36, 16, 2, 151936, 128000, True),
    "qwen2.5-vl-7b": Shape("qwen2_5_vl", "Qwen/Qwen2.5-VL-7B-Instruct", 3584, 18944, 28, 28, 4, 152064, 128000, False),
    "qwen2.5-vl-32b": Shape(
        "qwen2_5_vl", "Qwen/Qwen2.5-VL-32B-Instruct", 5120, 27648, 64, 40, 8, 152064, 128000, False, {"intermediate_size": 3456}
    ),
    # ours, for scenes: `vr1kit.toy.tiny.build_model(tokenizer, 512, 6, 512, 8)` with its tokenizer
    "tiny-gpu": Shape(
        "qwen2_5_vl",
        "",
        512,
        1536,
        8,
        4,
        2,
        429,
        1024,
        True,
        {
            "depth": 6,
            "hidden_size": 512,
            "intermediate_size": 1536,
            "patch_size": 8,
            "window_size": 192,
            "fullatt_block_indexes": tuple(range(6)),
        },
    ),
    "qwen3-vl-8b": Shape("qwen3_vl", "Qwen/Qwen3-VL-8B-Instruct", 4096, 12288, 36, 32, 8, 151936, 262144, False),
}


def build_config(shape: str | Shape, tokens: Mapping[str, int] = TOKENS, **more_text):
    """A transformers configuration of that shape; `more_text` goes to its text half. Raises ValueError for a name that is not there."""
    from transformers import AutoConfig

    if isinstance(shape, str):
        if shape not in SHAPES:
            raise ValueError(f"shape '{shape}' is not known; take one of: {', '.join(SHAPES)}")
        shape = SHAPES[shape]
    assert shape.model_type in FAMILIES
    vision = {"spatial_merge_size": 2, "temporal_patch_size": 2, **_VISION[shape.model_type], **shape.vision}
    vision["hidden_size" if shape.model_type == "qwen2_vl" else "out_hidden_size"] = shape.hidden
    text = {
        "vocab_size": shape.vocabulary, "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context, "tie_word_embeddings": shape.tied,
        "rope_parameters": {"rope_type": "default", **_ROPE[shape.model_type]}, **more_text,
    }  # fmt: skip
    if shape.model_type == "qwen3_vl":
        text["head_dim"] = shape.head_size
    return AutoConfig.for_model(
        shape.model_type, vision_config=vision, text_config=text, tie_word_embeddings=shape.tied, **tokens
    )


@dataclass(frozen=True)
class Counts:
    """Parameters by part."""

    vision: int  # tower and merger
    embeddings: int
    head: int  # 0 where tied
    layers: int  # text layers and norms
    linear: int  # of the text layers, those in linear maps: what quantization shrinks

    @property
    def total(self) -> int:
        return self.vision + self.embeddings + self.head + self.layers


def build_empty(config):
    """The model on the meta device: shapes without memory."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    model.tie_weights()
    return model


def count_parameters(config) -> Counts:
    """Exact counts of transformers' own class; tied weights once."""
    model, seen = build_empty(config), set()
    counts = dict.fromkeys(("vision", "embeddings", "head", "layers", "linear"), 0)
    for name, parameter in model.named_parameters():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        part = (
            "vision"
            if "visual." in name
            else "embeddings"
            if "embed_tokens" in name
            else "head"
            if "lm_head" in name
            else "layers"
        )
        counts[part] += parameter.numel()
        if part == "layers" and name.endswith("proj.weight"):
            counts["linear"] += parameter.numel()
    return Counts(**counts)
