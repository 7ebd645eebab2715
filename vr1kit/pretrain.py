"""How the two base policies are made, from drawn pictures alone: the "large-scale pre-training" of someone with two cores.

1. `warm_up`: the vision tower learns to see: every merged visual token predicts class and box of the object over it.
2. `train_answers`, clean: next-token training on right answers (and questions), the dense task beside it -> ``converged``.
3. `train_answers`, mixed: the same policy goes on with instruction data of *mixed quality*, as large models have it, until the
   loss has flattened -> ``mixed``. It knows the objects; its most likely answer in a dense scene is nevertheless a hurried one.

The mixed data, openly (all ours): per picture one annotator. *Careful* ones list every object, tightly. *Hurried* ones name the
larger half of the objects with loose boxes; they are the more common the denser the picture is. *Broken* exports (15 %) begin
with prose, lose the labels or stop in the middle of a box.

    vr1kit pretrain --out runs/base --pictures 48000        # about 1.5 hours on two cores

Pictures are drawn once and kept as 96 x 96 uint8; a horizontal flip doubles them.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm.auto import tqdm
from transformers import Qwen2_5_VLForConditionalGeneration

from vr1kit.prompts import ask_detection, ask_grounding, sort_left_to_right, write_answer
from vr1kit.scenes import DOMAINS, SHIFTED, TOYBOX, ask_question, draw_scene
from vr1kit.scenes import SIDE as PICTURE_SIDE
from vr1kit.sprites import SPRITES
from vr1kit.tiny import MERGE, PATCH, PROSE, SIDE, build_image_processor, build_model, build_processor

FIRST_SEED = 10_000_000  # pictures of pre-training; the curated mixes and the evaluation sets use lower seeds
LABELS = tuple(SPRITES)
GRID = SIDE // PATCH // MERGE  # visual tokens per side


# --- pictures -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Pictures:
    """N pictures at model resolution and what is in them."""

    pixels: np.ndarray  # (N, SIDE, SIDE, 3) uint8, memory-mapped
    domains: list[str]
    labels: list[list[str]]
    boxes_xyxy: list[np.ndarray]  # model-input pixels, float (n, 4)
    questions: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.domains)


def choose_domain(index: int) -> str:
    """70 % toy box, 30 % the shifted domains in turn. Never an unseen one."""
    return TOYBOX.name if index % 10 < 7 else SHIFTED[(index // 10 * 3 + index % 10) % len(SHIFTED)].name


def _draw_one(index: int) -> tuple[np.ndarray, dict]:
    scene = draw_scene(choose_domain(index), FIRST_SEED + index)
    small = np.asarray(scene.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    question = ask_question(scene, index)
    scale = SIDE / PICTURE_SIDE
    return small, {
        "domain": scene.domain,
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
            for i, (small, facts) in enumerate(progress(pool.map(_draw_one, range(n), chunksize=64))):
                pixels[i] = small
                out.write(json.dumps(facts) + "\n")
        pixels.flush()
        (folder / "facts.tmp").replace(facts_path)
    facts = [json.loads(line) for line in facts_path.read_text().splitlines()]
    return Pictures(
        np.load(pixels_path, mmap_mode="r"),
        [f["domain"] for f in facts],
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


def batch_answers(
    pictures: Pictures, tokenizer, rng: np.random.Generator, batch: int, quality: str
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of similar length: 15 % questions, 20 % grounding of one category, the rest detection."""
    while True:
        pool = rng.integers(0, len(pictures), batch * 8)
        mirrored = rng.random(len(pool)) < 0.5
        questions, answers = [], []
        for i, flipped in zip(pool, mirrored, strict=True):
            boxes, labels = pictures.boxes_xyxy[i], pictures.labels[i]
            if flipped:
                boxes = flip(pictures.pixels[:0], [boxes])[1][0]
            task = rng.random()
            if task < 0.15:
                question, answer = pictures.questions[i]
            else:
                question = ask_detection(DOMAINS[pictures.domains[i]].labels)
                if task < 0.35:
                    phrase = str(rng.choice(labels))
                    keep = [k for k, label in enumerate(labels) if label == phrase]
                    question, boxes, labels = ask_grounding(phrase), boxes[keep], [phrase] * len(keep)
                annotator = choose_annotator(len(labels), rng) if quality == "mixed" else "careful"
                answer = answer_like(annotator, boxes, labels, rng)
            questions.append(question)
            answers.append(answer)
        by_length = np.argsort([len(a) for a in answers], kind="stable")
        for chunk in rng.permutation(by_length.reshape(-1, batch)):
            out = _text_batch(tokenizer, [questions[k] for k in chunk], [answers[k] for k in chunk])
            pixels = pictures.pixels[pool[chunk]]
            pixels = np.where(mirrored[chunk][:, None, None, None], pixels[:, :, ::-1], pixels)
            out["pixel_values"] = to_patches(pixels)
            out["image_grid_thw"] = torch.tensor([[1, GRID * MERGE, GRID * MERGE]] * batch)
            boxes = [
                flip(pixels[:0], [pictures.boxes_xyxy[pool[k]]])[1][0] if mirrored[k] else pictures.boxes_xyxy[pool[k]]
                for k in chunk
            ]
            out["dense"] = token_targets(boxes, [pictures.labels[pool[k]] for k in chunk])
            yield out


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


# --- training -------------------------------------------------------------------------------------------------------------------------
def _optimise(
    parameters, loss_of: Callable[[], tuple[torch.Tensor, dict]], steps: int, learning_rate: float, log, start: str
) -> None:
    """AdamW, 100 steps of warm-up, cosine to zero, gradient norm at most 1 (prototype's settings)."""
    parameters = [p for p in parameters if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / 100, 0.5 * (1 + math.cos(math.pi * s / steps)) + 1e-3)
    )
    began, window = time.time(), []
    for step in range(1, steps + 1):
        loss, parts = loss_of()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        window.append({"loss": float(loss.detach()), **parts})
        if step % 100 == 0 or step == steps:
            means = {k: round(float(np.mean([w[k] for w in window])), 4) for k in window[0]}
            log({"stage": start, "step": step, "of": steps, **means, "seconds": round(time.time() - began, 1)})
            window = []


def dense_loss(out: torch.Tensor, classes: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """How well visual tokens tell class and box of the object over them: cross-entropy + (1 - IoU) + 2 L1.

    out: (B*36, classes + 1 + 4) of the linear head; classes (B*36,), 0 = none; targets (B*36, 4) in 0..1.
    """
    seen, k = classes > 0, len(LABELS) + 1
    predicted, true = out[seen, k:].sigmoid(), targets[seen]
    low, high = torch.max(predicted[:, :2], true[:, :2]), torch.min(predicted[:, 2:], true[:, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area = lambda b: (b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1)  # noqa: E731
    iou = inter / (area(predicted) + area(true) - inter).clamp(min=1e-6)
    loss = F.cross_entropy(out[:, :k], classes) + (1 - iou).mean() + 2 * F.l1_loss(predicted, true)
    right = (out[seen, :k].argmax(-1) == classes[seen]).float().mean()
    return loss, {"class": float(right), "iou": float(iou.mean().detach())}


def build_head(model) -> torch.nn.Linear:
    """The linear head of the dense task; it is thrown away after pre-training."""
    return torch.nn.Linear(model.config.text_config.hidden_size, len(LABELS) + 1 + 4)


def warm_up(model, head, pictures: Pictures, steps: int, batch: int, learning_rate: float, seed: int, log) -> None:
    """Teach the tower to see, before it is asked to speak."""
    rng = np.random.default_rng(seed)
    grid = torch.tensor([[1, GRID * MERGE, GRID * MERGE]] * batch)

    def loss_of():
        index = np.sort(rng.integers(0, len(pictures), batch))
        pixels, boxes = pictures.pixels[index], [pictures.boxes_xyxy[i] for i in index]
        if rng.random() < 0.5:
            pixels, boxes = flip(pixels, boxes)
        tokens = model.model.visual(to_patches(pixels), grid_thw=grid).pooler_output
        return dense_loss(head(tokens), *token_targets(boxes, [pictures.labels[i] for i in index]))

    _optimise([*model.model.visual.parameters(), *head.parameters()], loss_of, steps, learning_rate, log, "warm_up")


def train_answers(
    model,
    head,
    tokenizer,
    pictures: Pictures,
    quality: str,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    log,
    dense: float,
) -> None:
    """Next-token training on answers of the given quality ("clean" or "mixed"), prompt masked; the dense task goes on beside it
    with weight `dense`, because next-token loss alone teaches a young tower slowly."""
    batches = batch_answers(pictures, tokenizer, np.random.default_rng(seed), batch, quality)
    model.train()

    def loss_of():
        inputs = next(batches)
        targets = inputs.pop("dense")
        seen = model.model.get_image_features(inputs.pop("pixel_values"), inputs["image_grid_thw"], return_dict=True)
        answer_loss = model(**inputs, mm_encoder_outputs={"image": seen}, use_cache=False).loss
        if not dense:
            return answer_loss, {}
        extra, parts = dense_loss(head(torch.cat(seen.pooler_output)), *targets)
        return answer_loss + dense * extra, {"answer": float(answer_loss.detach()), **parts}

    _optimise([*model.parameters(), *head.parameters()], loss_of, steps, learning_rate, log, quality)


def make_base_policies(
    out: Path, pictures: int = 48_000, warm_up_steps: int = 600, clean_steps: int = 2700, mixed_steps: int = 400, seed: int = 0
) -> None:
    """Draw pictures, warm up, train `converged` on clean answers, then `mixed` from it. Each finished stage is kept and reused.

    Writes out/{warm_up,converged,mixed}/model.safetensors and out/log.jsonl.
    """
    torch.manual_seed(seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    pool = draw_pictures(out / "pictures", pictures, progress=lambda it: tqdm(it, total=pictures, desc="drawing", mininterval=5))
    processor = build_processor()
    model = build_model(processor.tokenizer)
    head = build_head(model)
    tokenizer = processor.tokenizer

    def log(row: dict) -> None:
        print(json.dumps(row), flush=True)
        with open(out / "log.jsonl", "a") as f:
            f.write(json.dumps(row) + "\n")

    stages = (
        ("warm_up", lambda: warm_up(model, head, pool, warm_up_steps, 48, 2e-3, seed, log)),
        ("converged", lambda: train_answers(model, head, tokenizer, pool, "clean", clean_steps, 40, 1.5e-3, seed + 1, log, 0.5)),
        ("mixed", lambda: train_answers(model, head, tokenizer, pool, "mixed", mixed_steps, 40, 5e-4, seed + 2, log, 0.0)),
    )
    for name, train in stages:
        folder = out / name
        if (folder / "model.safetensors").exists():
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
            head.load_state_dict(torch.load(out / "head.pt", weights_only=True))
            continue
        train()
        torch.save(head.state_dict(), out / "head.pt")
        copy.deepcopy(model).half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        processor.image_processor.save_pretrained(folder)
