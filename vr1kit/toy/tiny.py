"""The tiny policy: a real `Qwen2_5_VLForConditionalGeneration`, small enough for two CPU cores.

Only sizes and vocabulary differ from the 7B model the paper trains; class, chat template, image tokens, answer format and
coordinate space (pixels of the resized input) are the same, so every other module treats both alike.

What makes it learn at this size (each measured, see `policies/*/README.md`):
1. pictures of 96 x 96 px, patch 8, merge 2: 36 visual tokens;
2. a word-level tokenizer in which structure and ", 57" are single tokens: 6 tokens per box instead of Qwen's 30;
3. number embeddings that start as sines and cosines of their value.
"""

from __future__ import annotations

import math

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from vr1kit.prompts import DETECTION_PROMPT, GROUNDING_PROMPT
from vr1kit.toy.sprites import SPRITES

SIDE, PATCH, MERGE = 96, 8, 2  # ours
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|endoftext|>")
PROSE = ("Here are the objects: ", "The image shows ", "Sure! ")  # how broken exports begin
QUESTION_WORDS = ("How many", " are there?", "What colour is the", "?", "Is there a")
ANSWER_WORDS = ("yes", "no", "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")

# Qwen's chat template without its default system message (15 tokens that every completion would pay for).
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _vocabulary() -> list[str]:
    before, after = GROUNDING_PROMPT.split("{phrase}")
    structure = ['[{"bbox_2d": [', '"}, {"bbox_2d": [', '"}]', "[]", ']}, {"bbox_2d": [', "]}]", "```json\n", "\n```"]
    numbers = [f"{start}{i}" for start in ("", ", ") for i in range(SIDE + 1)]
    labels = [f"{start}{label}" for start in (" ", ", ", '], "label": "') for label in SPRITES]
    phrases = [DETECTION_PROMPT.split(" {categories}")[0], before.rstrip(), after, *QUESTION_WORDS, ".", "\n"]
    letters = [chr(c) for c in range(32, 127)]  # anything else in ASCII is spelled out
    words = ["<unk>", *SPECIAL, "user\n", "assistant\n", *structure, *numbers, *labels, *phrases, *PROSE, *ANSWER_WORDS, *letters]
    return list(dict.fromkeys(words))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over Qwen's special tokens; unknown words are spelled out, ASCII text decodes back exactly."""
    words = _vocabulary()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    longest_first = sorted((w for w in words if w not in SPECIAL and len(w) > 1 or w.isdigit()), key=len, reverse=True)
    # Numbers must not split ("9" out of "97"), labels must not either ("car" out of "card").
    known = [_escape(w) + (r"(?!\d)" if w[-1].isdigit() else r"(?![a-z])" if w[-1].islower() else "") for w in longest_first]
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*known, r"[\s\S]"])), "removed", invert=True)
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        additional_special_tokens=[s for s in SPECIAL if s not in ("<|im_end|>", "<|endoftext|>")],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _escape(word: str) -> str:
    return "".join("\\" + c if c in r"\^$.|?*+()[]{}" else c for c in word)


def build_image_processor() -> Qwen2VLImageProcessorPil:
    """Qwen's image processor (Pillow half), bound to exactly SIDE x SIDE for square pictures."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, min_pixels=SIDE * SIDE, max_pixels=SIDE * SIDE
    )


class ImageProcessorOnly(ProcessorMixin):
    """Qwen's processor without its video half, which wants torchvision. Enough for generate(), SFT and GRPOTrainer."""

    attributes = ["image_processor", "tokenizer"]
    return_mm_token_type_ids = True  # the model computes its rotary positions from these

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)

    def replace_image_token(self, image_inputs, image_idx, **kwargs):
        return self.image_token * int(image_inputs["image_grid_thw"][image_idx].prod() // self.image_processor.merge_size**2)

    def save_pretrained(self, save_directory, **kwargs):
        """Write both parts as they are; as a processor it would leave its name in them, which means nothing to AutoProcessor."""
        self.tokenizer.save_pretrained(save_directory)
        self.image_processor.save_pretrained(save_directory)

    @property
    def model_input_names(self):
        return [*super().model_input_names, "mm_token_type_ids"]


def build_processor() -> ImageProcessorOnly:
    return ImageProcessorOnly(build_image_processor(), build_tokenizer())


#: Widths and depths of tower and text half: the package's policies (2 M parameters), and one for a GPU (50 M).
SIZES = {"tiny": (128, 4, 128, 3), "tiny-gpu": (512, 6, 512, 8)}


def build_model(
    tokenizer: PreTrainedTokenizerFast, vision: int = 128, vision_depth: int = 4, text: int = 128, text_depth: int = 3
) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised policy (2 M parameters) with number embeddings that know their order."""
    ids = tokenizer.convert_tokens_to_ids
    half = text // 4 // 2  # head_dim / 2, split over time, height and width
    wide = (half - half // 4) // 2
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": vision_depth, "hidden_size": vision, "intermediate_size": 3 * vision, "num_heads": vision // 32,
            "patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": 2, "out_hidden_size": text,
            "window_size": 2 * SIDE, "fullatt_block_indexes": list(range(vision_depth)), "tokens_per_second": 2,
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": text, "intermediate_size": 3 * text, "num_hidden_layers": text_depth,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": True,
            "bos_token_id": ids("<|im_start|>"), "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [half - 2 * wide, wide, wide]},
        },
        image_token_id=ids("<|image_pad|>"), video_token_id=ids("<|video_pad|>"), vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"), tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config)
    table = model.model.language_model.embed_tokens.weight.data
    for word, i in tokenizer.get_vocab().items():
        if (digits := word.strip(", ")).isdigit():
            phase = int(digits) / SIDE * math.pi * 2 ** torch.linspace(0, 5, text // 4)
            table[i, : text // 2] = 0.03 * torch.cat([phase.sin(), phase.cos()])
    return model
