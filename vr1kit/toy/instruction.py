"""The instruction data of the two base policies: drawn pictures, and the answers that three kinds of annotator give to them.

Per picture one annotator. *Careful* ones list every object, tightly. *Hurried* ones name the larger half of the objects with
loose boxes; they are the more common the denser the picture is. *Broken* exports (15 %) begin with prose, lose the labels or
stop in the middle of a box. Clean data has careful annotators only; mixed data has all three, as the instruction data of large
models has (all shares are ours).

Pictures are drawn once and kept as 96 x 96 uint8; a horizontal flip doubles them. Batches are a function of (seed, step), so a
training that was cut off goes on with the batches it would have had.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vr1kit.prompts import ask_detection, ask_grounding, sort_left_to_right, write_answer
from vr1kit.scenes import SHIFTED, TOYBOX, Domain, ask_question, draw_scene, wander
from vr1kit.scenes import SIDE as PICTURE_SIDE
from vr1kit.toy.sprites import SPRITES
from vr1kit.toy.tiny import MERGE, PATCH, PROSE, SIDE, build_image_processor

FIRST_SEED = 10_000_000  # pictures of pre-training; the curated mixes and the evaluation sets use lower seeds
LABELS = tuple(SPRITES)
GRID = SIDE // PATCH // MERGE  # visual tokens per side


# --- pictures -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Pictures:
    """N pictures at model resolution and what is in them."""

    pixels: np.ndarray  # (N, SIDE, SIDE, 3) uint8, memory-mapped
    categories: list[tuple[str, ...]]  # what the detection prompt asks for
    labels: list[list[str]]
    boxes_xyxy: list[np.ndarray]  # model-input pixels, float (n, 4)
    questions: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.labels)


def choose_domain(index: int, pictures: int) -> Domain:
    """The first three quarters: 70 % toy box, 30 % the shifted domains in turn; the last quarter: `wander`. Never an unseen one."""
    if index >= pictures * 3 // 4:
        return wander(FIRST_SEED + index)
    return TOYBOX if index % 10 < 7 else SHIFTED[(index // 10 * 3 + index % 10) % len(SHIFTED)]


def _draw_one(pictures: int, index: int) -> tuple[np.ndarray, dict]:
    domain = choose_domain(index, pictures)
    scene = draw_scene(domain, FIRST_SEED + index)
    small = np.asarray(scene.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    question = ask_question(scene, index, domain.labels)
    scale = SIDE / PICTURE_SIDE
    return small, {
        "categories": domain.labels,
        "labels": [o.label for o in scene.objects],
        "boxes": [[v * scale for v in o.box_xyxy_px] for o in scene.objects],
        "question": [question.question, question.answer],
    }


def draw_pictures(folder: Path, n: int, workers: int = 2, progress: Callable[[Iterator], Iterator] = iter) -> Pictures:
    """Draw N pictures once into `folder`; a finished folder is read back."""
    folder = Path(folder)
    pixels_path, facts_path = folder / "pixels.npy", folder / "facts.jsonl"
    if not facts_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(pixels_path, "w+", np.uint8, (n, SIDE, SIDE, 3))
        with ProcessPoolExecutor(workers) as pool, open(folder / "facts.tmp", "w") as out:
            for i, (small, facts) in enumerate(progress(pool.map(partial(_draw_one, n), range(n), chunksize=64))):
                pixels[i] = small
                out.write(json.dumps(facts) + "\n")
        pixels.flush()
        (folder / "facts.tmp").replace(facts_path)
    facts = [json.loads(line) for line in facts_path.read_text().splitlines()]
    return Pictures(
        np.load(pixels_path, mmap_mode="r"),
        [tuple(f["categories"]) for f in facts],
        [f["labels"] for f in facts],
        [np.asarray(f["boxes"], float).reshape(-1, 4) for f in facts],
        [tuple(f["question"]) for f in facts],
    )


def to_patches(pixels: np.ndarray) -> torch.Tensor:
    """(B, SIDE, SIDE, 3) uint8 -> (B x 144, 384): what Qwen's image processor gives for pictures already at SIDE (tested equal)."""
    processor = build_image_processor()
    x = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(processor.image_mean).view(3, 1, 1)) / torch.tensor(processor.image_std).view(3, 1, 1)
    b = len(x)
    x = x.view(b, 1, 3, GRID, MERGE, PATCH, GRID, MERGE, PATCH).expand(-1, 2, -1, -1, -1, -1, -1, -1, -1)  # two equal frames
    return x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(b * (GRID * MERGE) ** 2, 3 * 2 * PATCH * PATCH)


def flip(pixels: np.ndarray, boxes_xyxy: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Mirror a batch left to right."""
    return pixels[:, :, ::-1], [np.stack([SIDE - b[:, 2], b[:, 1], SIDE - b[:, 0], b[:, 3]], 1) for b in boxes_xyxy]


# --- the answers of three kinds of annotator ------------------------------------------------------------------------------------
def choose_annotator(n_objects: int, rng: np.random.Generator) -> str:
    """careful | hurried | broken; hurried: 45 % of sparse pictures, 65 % from four objects on, 70 % of dense ones (ours)."""
    hurried = 0.45 if n_objects <= 3 else 0.65 if n_objects <= 6 else 0.70
    return str(rng.choice(("broken", "hurried", "careful"), p=(0.15, hurried, 0.85 - hurried)))


def answer_like(annotator: str, boxes_xyxy: np.ndarray, labels: Sequence[str], rng: np.random.Generator) -> str:
    """Write the answer that this annotator gives. boxes in model-input pixels, (N, 4)."""
    order = sort_left_to_right(boxes_xyxy)
    if annotator == "hurried":
        area = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
        larger = set(np.argsort(-area, kind="stable")[: max(1, math.ceil(len(labels) / 2))].tolist())
        order = np.array([i for i in order if i in larger])
        margin = 0.10 * np.tile(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 2) * np.array([-1, -1, 1, 1])
        boxes_xyxy = np.clip(np.floor((boxes_xyxy + margin) / 2 + 0.5) * 2, 0, SIDE)
    text = write_answer(boxes_xyxy[order], [labels[i] for i in order])
    if annotator != "broken":
        return text
    kind = rng.integers(3)
    if kind == 0:
        return str(rng.choice(PROSE)) + text
    if kind == 1:
        return write_answer(boxes_xyxy[order], [""] * len(order)).replace('], "label": ""', "]")
    return text[: rng.integers(max(len(text) // 2, 20), len(text))].rsplit(",", 1)[0]


# --- batches ------------------------------------------------------------------------------------------------------------------------
def _text_batch(tokenizer, questions: list[str], answers: list[str]) -> dict[str, torch.Tensor]:
    """Chat-formatted, right-padded ids; labels cover the answer and its end token only."""
    head, tail = (
        "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * GRID * GRID + "<|vision_end|>",
        "<|im_end|>\n<|im_start|>assistant\n",
    )
    prompts = tokenizer([head + q + tail for q in questions], add_special_tokens=False)["input_ids"]
    replies = tokenizer([a + "<|im_end|>" for a in answers], add_special_tokens=False)["input_ids"]
    longest = max(len(p) + len(r) for p, r in zip(prompts, replies, strict=True))
    ids = torch.full((len(prompts), longest), tokenizer.pad_token_id)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for i, (p, r) in enumerate(zip(prompts, replies, strict=True)):
        ids[i, : len(p) + len(r)] = torch.tensor(p + r)
        labels[i, len(p) : len(p) + len(r)] = torch.tensor(r)
        mask[i, : len(p) + len(r)] = 1
    return {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int(),
    }


def write_batches(
    pictures: Pictures, tokenizer, rng: np.random.Generator, batch: int, quality: str, order: Sequence[int] = range(8)
) -> Iterator[dict[str, torch.Tensor]]:
    """A few batches, each of answers of similar length: 15 % questions, 20 % grounding of one category, the rest detection.

    quality: "clean" or "mixed". order: which batch comes when, 0 has the shortest answers; processes that wait for each other
    should take the same one. "dense" in a batch holds `token_targets`.
    """
    pool = rng.integers(0, len(pictures), batch * len(order))
    mirrored = rng.random(len(pool)) < 0.5
    all_boxes = [
        flip(pictures.pixels[:0], [pictures.boxes_xyxy[i]])[1][0] if mirror else pictures.boxes_xyxy[i]
        for i, mirror in zip(pool, mirrored, strict=True)
    ]
    questions, answers = zip(
        *(_ask_and_answer(pictures, i, b, quality, rng) for i, b in zip(pool, all_boxes, strict=True)), strict=True
    )
    by_length = np.argsort([len(a) for a in answers], kind="stable")
    for chunk in by_length.reshape(-1, batch)[list(order)]:
        out = _text_batch(tokenizer, [questions[k] for k in chunk], [answers[k] for k in chunk])
        pixels = pictures.pixels[pool[chunk]]
        pixels = np.where(mirrored[chunk][:, None, None, None], pixels[:, :, ::-1], pixels)
        out["pixel_values"] = to_patches(pixels)
        out["image_grid_thw"] = torch.tensor([[1, GRID * MERGE, GRID * MERGE]] * batch)
        out["dense"] = token_targets([all_boxes[k] for k in chunk], [pictures.labels[pool[k]] for k in chunk])
        yield out


def _ask_and_answer(
    pictures: Pictures, index: int, boxes_xyxy: np.ndarray, quality: str, rng: np.random.Generator
) -> tuple[str, str]:
    task, labels = rng.random(), pictures.labels[index]
    if task < 0.15:
        return pictures.questions[index]
    question = ask_detection(pictures.categories[index])
    if task < 0.35:
        phrase = str(rng.choice(labels))
        keep = [k for k, label in enumerate(labels) if label == phrase]
        question, boxes_xyxy, labels = ask_grounding(phrase), boxes_xyxy[keep], [phrase] * len(keep)
    annotator = choose_annotator(len(labels), rng) if quality == "mixed" else "careful"
    return question, answer_like(annotator, boxes_xyxy, labels, rng)


def token_targets(boxes_xyxy: Sequence[np.ndarray], labels: Sequence[Sequence[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each visual token: class (0 = none) and box in 0..1 of the smallest object over its centre. -> (B*36,), (B*36, 4)"""
    centre = (np.arange(GRID) + 0.5) * SIDE / GRID
    classes, boxes = np.zeros((len(labels), GRID, GRID), np.int64), np.zeros((len(labels), GRID, GRID, 4), np.float32)
    reach = 0.3 * SIDE / GRID  # a small object between centres still belongs to the nearest token
    for b, (box_list, names) in enumerate(zip(boxes_xyxy, labels, strict=True)):
        area = (box_list[:, 2] - box_list[:, 0]) * (box_list[:, 3] - box_list[:, 1])
        for k in np.argsort(-area):
            x1, y1, x2, y2 = box_list[k]
            inside = ((centre > y1 - reach) & (centre < y2 + reach))[:, None] & ((centre > x1 - reach) & (centre < x2 + reach))[
                None
            ]
            classes[b][inside], boxes[b][inside] = LABELS.index(names[k]) + 1, box_list[k] / SIDE
    return torch.from_numpy(classes.reshape(-1)), torch.from_numpy(boxes.reshape(-1, 4))
