"""Answers and log-probabilities in which a group of completions shares its prompt and its picture.

GRPO asks the same question G times. Stock code pays for picture and prompt G times in generation and G times in the loss; here
both are computed once per prompt and their key-value cache is shared (in the loss with gradients). Rows that have finished leave
the batch. The numbers are those of the stock path to float rounding (tests/test_decoding.py), only the work is less.

Works for every family with Qwen's rotary positions (Qwen2-VL, Qwen2.5-VL, Qwen3-VL). One process; `vr1kit.grpo` falls back to
trl's own path elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache


def supports_shared_prompts(model) -> bool:
    """True for models whose rotary positions we can extend ourselves."""
    return hasattr(getattr(unwrap(model), "model", None), "get_rope_index")


def unwrap(model):
    """The transformers model inside a peft wrapper (adapters stay active: peft injects them in place)."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass
class Prefix:
    """What prompts leave behind: their cache and the logits of the token that comes next."""

    cache: DynamicCache
    next_logits: torch.Tensor  # (U, V)
    mask: torch.Tensor  # (U, P), 0 = left padding
    next_position: torch.Tensor  # (U,) rotary position of the first completion token


def read_prompts(model, inputs: dict[str, torch.Tensor]) -> Prefix:
    """Run U left-padded prompts (with their pictures) once. inputs: as a processor returns them, input_ids (U, P)."""
    model = unwrap(model)
    mask = inputs["attention_mask"]
    multimodal = {k: inputs[k] for k in ("pixel_values", "image_grid_thw", "mm_token_type_ids") if inputs.get(k) is not None}
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"], multimodal.get("mm_token_type_ids"), multimodal.get("image_grid_thw"), attention_mask=mask
    )  # (3, U, P)
    out = model(
        input_ids=inputs["input_ids"], attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1, **multimodal
    )
    return Prefix(out.past_key_values, out.logits[:, -1], mask, positions.amax(dim=(0, 2)) + 1)


def _continue(model, cache, ids, mask, position):
    """Feed ids (R, T) after a cache; position (R,) is that of ids[:, 0]. -> logits (R, T, V)"""
    steps = position[:, None] + torch.arange(ids.shape[1], device=ids.device)  # (R, T)
    out = unwrap(model)(
        input_ids=ids, attention_mask=mask, position_ids=steps.expand(3, -1, -1), past_key_values=cache, use_cache=True
    )
    return out.logits


@torch.no_grad()
def generate(
    model,
    inputs: dict[str, torch.Tensor],
    *,
    per_prompt: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int,
    eos_token_id: int,
    forbidden: Sequence[int] = (),
) -> tuple[list[list[int]], list[list[float]]]:
    """Answer each of U prompts `per_prompt` times; temperature 0 is greedy. In place of a `forbidden` token comes the likeliest other.

    Returns token ids (end token included where reached) and the log-probability of each token, U x per_prompt rows, grouped by
    prompt. Sampling uses torch's global generator, so a restored RNG state repeats it.
    """
    prefix = read_prompts(model, inputs)
    rows = torch.arange(prefix.mask.shape[0], device=prefix.mask.device).repeat_interleave(per_prompt)
    cache = prefix.cache
    if per_prompt > 1:
        cache.batch_repeat_interleave(per_prompt)
    n = len(rows)
    logits, mask, position = prefix.next_logits[rows], prefix.mask[rows], prefix.next_position[rows]
    alive = torch.arange(n, device=rows.device)  # which original row each batch row is
    tokens, logps = [[] for _ in range(n)], [[] for _ in range(n)]
    for step in range(max_new_tokens):
        scores = torch.log_softmax(logits.float() / (temperature or 1.0), -1)
        chosen = scores.argmax(-1) if temperature == 0 else _draw(scores)
        if forbidden and (bad := torch.isin(chosen, torch.tensor(forbidden, device=chosen.device))).any():
            allowed = scores.index_fill(1, torch.tensor(forbidden, device=scores.device), -torch.inf)
            chosen = torch.where(bad, allowed.argmax(-1), chosen)
        chosen_logps = scores.gather(1, chosen[:, None]).squeeze(1).tolist()
        for row, token, logp in zip(alive.tolist(), chosen.tolist(), chosen_logps, strict=True):
            tokens[row].append(token)
            logps[row].append(logp)
        keep = (chosen != eos_token_id).nonzero().squeeze(1)
        if len(keep) == 0 or step == max_new_tokens - 1:
            break
        if len(keep) < len(chosen):  # finished rows leave the batch
            cache.batch_select_indices(keep)
            alive, mask, position, chosen = alive[keep], mask[keep], position[keep], chosen[keep]
        mask = torch.cat([mask, mask.new_ones(len(chosen), 1)], 1)
        logits = _continue(model, cache, chosen[:, None], mask, position)[:, -1]
        position = position + 1
    return tokens, logps


def score_completions(
    model,
    inputs: dict[str, torch.Tensor],
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    prompt_of: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each completion token at that temperature, with gradients, each prompt computed once.

    inputs: U prompts; completion_ids, completion_mask: (B, C) right-padded; prompt_of: (B,) index of each row's prompt.
    Returns two (B, C) tensors; values at padding are meaningless, as in trl.
    """
    prefix = read_prompts(model, inputs)
    prefix.cache.batch_select_indices(prompt_of)
    mask = torch.cat([prefix.mask[prompt_of], completion_mask], 1)
    first = prefix.next_logits[prompt_of][:, None]  # (B, 1, V)
    if completion_ids.shape[1] > 1:
        rest = _continue(model, prefix.cache, completion_ids[:, :-1], mask[:, :-1], prefix.next_position[prompt_of])
        first = torch.cat([first, rest], 1)  # (B, C, V)
    scores = torch.log_softmax(first.float() / temperature, -1)
    entropy = -(scores.detach().exp() * scores.detach()).sum(-1)
    return scores.gather(2, completion_ids[:, :, None]).squeeze(2), entropy


def _draw(scores: torch.Tensor) -> torch.Tensor:
    """One sample per row of log-probabilities (R, V), by inverting the cumulative sum: one random number a row."""
    cumulative = scores.exp().cumsum(-1)
    threshold = torch.rand(len(scores), 1, device=scores.device) * cumulative[:, -1:]
    return (cumulative <= threshold).sum(-1).clamp(max=scores.shape[1] - 1)
