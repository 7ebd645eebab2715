"""A checkpoint with random weights: the right classes, processor and tokenizer behaviour, nothing learnt, nothing to download.

    python benchmarks/random_checkpoint.py qwen2.5-vl-3b out/random-3b        # 7.5 GB in bfloat16
    python benchmarks/random_checkpoint.py tiny:qwen3_vl out/tiny-qwen3       # a few hundred kB, for tests
    python benchmarks/random_checkpoint.py wide:qwen3_vl out/wide-qwen3       # the same with heads of 32: vLLM on a CPU has none of 16
    python benchmarks/random_checkpoint.py tiny-gpu tiny-gpu-base             # 50 M parameters, the package's own tokenizer

The tokenizer is Qwen2's class over bytes and digits (its real merges cannot be made here): byte-level, every digit on its own,
answers about four times as long as with the real one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForImageTextToText, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vr1kit.families import FAMILIES
from vr1kit.scale.shapes import SHAPES, Shape, build_config
from vr1kit.toy.tiny import CHAT_TEMPLATE, SIZES, build_image_processor, build_model
from vr1kit.toy.tiny import build_tokenizer as build_words

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_TEXT = Shape("", "", 64, 96, 2, 4, 2, 0, 4096, True, head_size=16)
_TINY_TOWER = {"depth": 2, "num_heads": 2}
#: Of each family the smallest model that has every kind of part.
TINY = {
    "qwen2_vl": replace(_TEXT, model_type="qwen2_vl", vision={**_TINY_TOWER, "embed_dim": 32}),
    "qwen2_5_vl": replace(
        _TEXT, model_type="qwen2_5_vl",
        vision={**_TINY_TOWER, "hidden_size": 32, "intermediate_size": 48, "fullatt_block_indexes": (1,)},
    ),
    "qwen3_vl": replace(
        _TEXT, model_type="qwen3_vl",
        vision={**_TINY_TOWER, "hidden_size": 32, "intermediate_size": 48, "num_position_embeddings": 256, "deepstack_visual_indexes": (0,)},
    ),
}  # fmt: skip


def build_tokenizer() -> Qwen2Tokenizer:
    vocabulary = {token: i for i, token in enumerate([*sorted(ByteLevel.alphabet()), *SPECIAL])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], unk_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=[t for t in SPECIAL if t not in ("<|im_end|>", "<|endoftext|>")], padding_side="left",
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_checkpoint(
    shape: str, folder: Path, dtype: torch.dtype = torch.float32, seed: int = 0, max_pixels: int | None = None
) -> Path:
    """Weights, tokenizer and image processor as `save_pretrained` writes them. shape: of SHAPES, tiny:FAMILY or wide:FAMILY."""
    if shape == "tiny-gpu":
        torch.manual_seed(seed)
        tokenizer, images = build_words(), build_image_processor()
        build_model(tokenizer, *SIZES[shape]).to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        images.save_pretrained(folder)
        return folder
    tokenizer = build_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    tokens = {
        "image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"), "vision_end_token_id": ids("<|vision_end|>"),
    }  # fmt: skip
    tiny, wide = shape.startswith(("tiny:", "wide:")), shape.startswith("wide:")
    chosen = replace(TINY[shape[5:]], vocabulary=len(tokenizer)) if tiny else SHAPES[shape]
    if wide:
        chosen = replace(chosen, hidden=2 * chosen.hidden, head_size=2 * chosen.head_size)
    more = {"eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"), "bos_token_id": ids("<|im_start|>")}
    config = build_config(chosen, tokens, **more)
    if tiny:  # a head of 16 turns in 8 pairs
        config.get_text_config().rope_parameters["mrope_section"] = [4, 6, 6] if wide else [2, 3, 3]
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    if tiny:  # initial weights are so small that every answer is alike
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    family = FAMILIES[chosen.model_type]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=family.factor // 2, merge_size=2, temporal_patch_size=2, min_pixels=family.factor**2 * 4,
        max_pixels=max_pixels or (family.factor**2 * 16 if tiny else 16384 * family.factor**2),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", help=f"{', '.join(SHAPES)}, tiny:FAMILY or wide:FAMILY")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    dtype = "float32" if arguments.shape == "tiny-gpu" else arguments.dtype  # it is to learn from scratch
    write_checkpoint(arguments.shape, arguments.folder, getattr(torch, dtype))


if __name__ == "__main__":
    main()
