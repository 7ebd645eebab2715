"""How the two base policies are made, from drawn pictures alone: the "large-scale pre-training" of someone with two cores.

1. `warm_up`: the vision tower learns to see: every merged visual token predicts class and box of the object over it.
2. `train_answers`, clean: next-token training on right answers (and questions), the dense task beside it -> ``converged``.
3. `train_answers`, mixed: the same policy goes on with instruction data of *mixed quality* (`vr1kit.toy.instruction`), as large models
   have it, until the loss has flattened -> ``mixed``. It knows the objects; its most likely answer in a dense scene is
   nevertheless a hurried one.

    vr1kit pretrain --out runs/base          # about an hour and a half on two cores
    vr1kit pretrain --out runs/base-gpu --size tiny-gpu --device cuda --processes 1 --batch 64      # 50 M parameters; not tried yet

What makes it fast (each measured on two cores, pictures per second): two processes of one thread each that average their
gradients, against one process of two threads; bfloat16 with attention left in float32, since the CPU's bfloat16 attention is
four times slower backwards; Muon for the matrices.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tqdm.auto import tqdm
from transformers import AttentionInterface, Qwen2_5_VLForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vr1kit.scale.ranks import leave_group
from vr1kit.toy.instruction import GRID, LABELS, Pictures, draw_pictures, flip, to_patches, token_targets, write_batches
from vr1kit.toy.tiny import MERGE, SIDE, SIZES, build_model, build_processor

SAVE_EVERY = 400  # steps: what a cut-off costs at most; a multiple of the 8 batches drawn at once


@dataclass(frozen=True)
class Stage:
    """One stage of pre-training. batch: pictures per process and step."""

    name: str  # warm_up | converged | mixed
    steps: int
    batch: int
    learning_rate: float  # of Muon (matrices); embeddings, norms and the head get a quarter of it, by AdamW
    dense: float = 0.0  # weight of the dense task beside the answers


#: Learning rates by size: of the first two stages, and of the last.
RATES = {"tiny": (6e-3, 1e-3), "tiny-gpu": (2e-3, 3e-4)}  # ours; the second pair is a guess


def plan_stages(warm_up_steps: int, clean_steps: int, mixed_steps: int, batch: int = 32, size: str = "tiny") -> tuple[Stage, ...]:
    fast, slow = RATES[size]
    return (
        Stage("warm_up", warm_up_steps, batch, fast),
        Stage("converged", clean_steps, batch, fast, dense=0.5),
        Stage("mixed", mixed_steps, batch, slow),
    )


# --- two processes ------------------------------------------------------------------------------------------------------------
def _average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Mean over processes, in one message. All processes run the same stage, so the same parameters have gradients."""
    if not dist.is_initialized():
        return
    trained = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.reshape(-1) for p in trained])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, g in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        p.grad = g.view_as(p)


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _attend_in_float32(module, query, key, value, attention_mask, **kwargs):
    with torch.autocast("cpu", enabled=False):
        out, weights = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **kwargs)
    return out.to(query.dtype), weights


@contextmanager
def _fast_arithmetic(model) -> Iterator[None]:
    """bfloat16 matrix products; attention in float32 on a CPU."""
    kind, attention = model.device.type, "sdpa"
    if kind == "cpu":
        AttentionInterface.register("sdpa_float32", _attend_in_float32)
        attention = "sdpa_float32"
    model.set_attn_implementation(attention)
    with torch.autocast(kind, torch.bfloat16, cache_enabled=False):  # the cache would keep weights from before the last step
        yield
    model.set_attn_implementation("sdpa")


# --- training -----------------------------------------------------------------------------------------------------------------
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


def warm_up_loss(model, head, pictures: Pictures, batch: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
    """The dense task alone: teach the tower to see, before it is asked to speak."""
    index = np.sort(rng.integers(0, len(pictures), batch))
    pixels, boxes = pictures.pixels[index], [pictures.boxes_xyxy[i] for i in index]
    if rng.random() < 0.5:
        pixels, boxes = flip(pixels, boxes)
    grid = torch.tensor([[1, GRID * MERGE, GRID * MERGE]] * batch)
    targets = token_targets(boxes, [pictures.labels[i] for i in index])
    patches, grid, *targets = (x.to(model.device) for x in (to_patches(pixels), grid, *targets))
    tokens = model.model.visual(patches, grid_thw=grid).pooler_output
    with torch.autocast(model.device.type, enabled=False):
        return dense_loss(head(tokens.float()), *targets)


def answer_loss(model, head, inputs: dict, dense: float, coordinate_ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Next-token loss of the answers, prompt masked, plus `dense` times the dense task, because next-token loss alone teaches
    a young tower slowly, and 0.05 per pixel of `coordinate_miss`. Logits are computed for answer tokens only."""
    targets = [x.to(model.device) for x in inputs["dense"]]
    inputs = {name: value.to(model.device) for name, value in inputs.items() if name != "dense"}
    labels = inputs.pop("labels")[:, 1:]
    seen = model.model.get_image_features(inputs.pop("pixel_values"), inputs["image_grid_thw"], return_dict=True)
    hidden = model.model(**inputs, mm_encoder_outputs={"image": seen}, use_cache=False)[0][:, :-1]
    answered = labels != -100
    logits = model.lm_head(hidden[answered])
    with torch.autocast(model.device.type, enabled=False):
        loss = F.cross_entropy(logits.float(), labels[answered])
        if not dense:
            return loss, {}
        miss = coordinate_miss(logits.float(), labels[answered], coordinate_ids)
        extra, parts = dense_loss(head(torch.cat(seen.pooler_output).float()), *targets)
    return loss + 0.05 * miss + dense * extra, {"answer": float(loss.detach()), "miss_px": float(miss.detach()), **parts}


def list_coordinate_ids(tokenizer) -> torch.Tensor:
    """Token ids of the coordinates 0..SIDE, (2, SIDE + 1): as the first number of a box, and after a comma."""
    return torch.tensor([[tokenizer.convert_tokens_to_ids(f"{start}{i}") for i in range(SIDE + 1)] for start in ("", ", ")])


def coordinate_miss(logits: torch.Tensor, labels: torch.Tensor, coordinate_ids: torch.Tensor) -> torch.Tensor:
    """Mean distance in px between the expected and the true coordinate: cross-entropy alone does not know that 57 is next to 58.

    logits (T, V) float; labels (T,); coordinate_ids as by `list_coordinate_ids`. 0 where no label is a coordinate.
    """
    total, n = logits.sum() * 0, 0
    for ids in coordinate_ids:
        at, value = (labels[:, None] == ids).nonzero(as_tuple=True)
        expected = logits[at][:, ids].softmax(-1) @ torch.arange(len(ids), dtype=logits.dtype)
        total, n = total + (expected - value).abs().sum(), n + len(at)
    return total / max(n, 1)


def _build_optimisers(model, head, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of both transformers; AdamW for embeddings, norms, patches and the head."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in n]
    chosen = {id(p) for p in matrices}
    rest = [p for p in [*model.parameters(), *head.parameters()] if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=learning_rate / 4, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _losses(stage: Stage, model, head, tokenizer, pictures: Pictures, seed: int, first: int) -> Iterator:
    """One (loss, parts) per step from step `first` on; batches depend on seed, process and step only."""
    if stage.name == "warm_up":
        for step in range(first, stage.steps):
            yield warm_up_loss(model, head, pictures, stage.batch, np.random.default_rng([seed, _rank(), step]))
        return
    quality, coordinate_ids = "mixed" if stage.name == "mixed" else "clean", list_coordinate_ids(tokenizer).to(model.device)
    for block in range(first, stage.steps, 8):
        rng = np.random.default_rng([seed, _rank(), block])
        order = np.random.default_rng([seed, block]).permutation(8)  # the same for all processes: nobody waits for a longer batch
        for inputs in write_batches(pictures, tokenizer, rng, stage.batch, quality, order):
            yield answer_loss(model, head, inputs, stage.dense, coordinate_ids)


def train_stage(
    stage: Stage, model, head, tokenizer, pictures: Pictures, seed: int, log: Callable[[dict], None], partial_path: Path
) -> None:
    """Train one stage: 100 steps of linear warm-up, cosine to zero, gradient norm at most 1.

    A stage that was cut off goes on from `partial_path`, which is written every SAVE_EVERY steps.
    """
    parameters = [*model.parameters(), *head.parameters()]
    optimisers = _build_optimisers(model, head, stage.learning_rate)
    first, began, window = 0, time.time(), []
    if partial_path.exists():
        saved = torch.load(partial_path, weights_only=True, map_location=model.device)
        first, began = saved["step"], began - saved["seconds"]
        for thing, state in zip((model, head, *optimisers), saved["states"], strict=True):
            thing.load_state_dict(state)
    rates = (stage.learning_rate, stage.learning_rate / 4)
    model.train()
    with _fast_arithmetic(model):
        for step, (loss, parts) in enumerate(_losses(stage, model, head, tokenizer, pictures, seed, first), first + 1):
            if step > stage.steps:
                break
            for optimiser, rate in zip(optimisers, rates, strict=True):
                optimiser.zero_grad()
                for group in optimiser.param_groups:
                    group["lr"] = rate * min(step / 100, 0.5 * (1 + math.cos(math.pi * step / stage.steps)) + 1e-3)
            loss.backward()
            _average_gradients(parameters)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimiser in optimisers:
                optimiser.step()
            window.append({"loss": float(loss.detach()), **parts})
            if _rank() == 0 and (step % 100 == 0 or step == stage.steps):
                means = {k: round(float(np.mean([w[k] for w in window])), 4) for k in window[0]}
                log({"stage": stage.name, "step": step, "of": stage.steps, **means, "seconds": round(time.time() - began, 1)})
                window = []
            if _rank() == 0 and step % SAVE_EVERY == 0:
                states = [thing.state_dict() for thing in (model, head, *optimisers)]
                _save_torch({"step": step, "seconds": time.time() - began, "states": states}, partial_path)


def _save_torch(what: object, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(what, temporary)
    temporary.replace(path)


def _train_stages(
    rank: int, processes: int, out: Path, stages: tuple[Stage, ...], pictures: int, seed: int, size: str, device: str
) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{out / 'meeting_point'}", rank=rank, world_size=processes)
    torch.manual_seed(seed)
    pool = draw_pictures(out / "pictures", pictures)
    processor = build_processor()
    tokenizer = processor.tokenizer
    model = build_model(tokenizer, *SIZES[size]).to(device)
    head = build_head(model).to(device)

    def log(row: dict) -> None:
        print(json.dumps(row), flush=True)
        with open(out / "log.jsonl", "a") as f:
            f.write(json.dumps(row) + "\n")

    for number, stage in enumerate(stages):
        folder, partial_path = out / stage.name, out / f"{stage.name}.partial.pt"
        if (folder / "head.pt").exists():
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).to(device)
            head.load_state_dict(torch.load(folder / "head.pt", weights_only=True, map_location=device))
            continue
        train_stage(stage, model, head, tokenizer, pool, seed + number, log, partial_path)
        if rank == 0:
            copy.deepcopy(model).half().save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            processor.image_processor.save_pretrained(folder)
            _save_torch(head.state_dict(), folder / "head.pt")  # last: a folder with a head is complete
            partial_path.unlink(missing_ok=True)
        if processes > 1:
            dist.barrier()
    leave_group()


def make_base_policies(
    out: Path,
    pictures: int = 64_000,
    warm_up_steps: int = 400,
    clean_steps: int = 5000,
    mixed_steps: int = 600,
    seed: int = 0,
    processes: int = 2,
    batch: int = 32,
    size: str = "tiny",
    device: str = "cpu",
) -> None:
    """Draw pictures, warm up, train `converged` on clean answers, then `mixed` from it. size: of SIZES; batch: of each process.

    Raises ValueError for several processes on a GPU, and where a folder holds stages of another size.

    Each finished stage is kept and reused, and a stage that was cut off goes on. Writes
    out/{warm_up,converged,mixed}/model.safetensors and out/log.jsonl.
    """
    out = Path(out).resolve()
    if device != "cpu" and processes != 1:
        raise ValueError(f"processes must be 1 on {device}, got {processes}: one GPU needs one process; raise batch instead")
    for made in out.glob("*/config.json"):
        width = json.loads(made.read_text())["text_config"]["hidden_size"]
        if width != SIZES[size][2]:
            raise ValueError(
                f"{made.parent} holds a policy of width {width}, size '{size}' has {SIZES[size][2]}; take another folder"
            )
    out.mkdir(parents=True, exist_ok=True)
    (out / "meeting_point").unlink(missing_ok=True)
    workers = processes if device == "cpu" else os.cpu_count() or 1
    draw_pictures(out / "pictures", pictures, workers, lambda it: tqdm(it, total=pictures, desc="drawing", mininterval=5))
    stages = plan_stages(warm_up_steps, clean_steps, mixed_steps, batch, size)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    arguments = (processes, out, stages, pictures, seed, size, device)
    if processes == 1:
        _train_stages(0, *arguments)
    else:
        torch.multiprocessing.spawn(_train_stages, arguments, nprocs=processes)
