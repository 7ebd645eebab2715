"""Shared prompts change the work, not the numbers."""

import copy

import pytest
import torch

from vr1kit.decoding import _draw, generate, score_completions
from vr1kit.evaluate import prepare_inputs
from vr1kit.prompts import ask_detection
from vr1kit.scenes import DOMAINS, draw_scene


@pytest.fixture(scope="module")
def inputs(random_policy):
    domains = ("toybox", "road", "toybox")  # prompts of two lengths: padding
    return prepare_inputs(
        random_policy,
        [draw_scene(d, i).image for i, d in enumerate(domains)],
        [ask_detection(DOMAINS[d].labels) for d in domains],
    )


def test_greedy_answers_equal_transformers_generate(random_policy, inputs):
    eos = random_policy.tokenizer.eos_token_id
    ours, logps = generate(random_policy.model, inputs, max_new_tokens=12, eos_token_id=eos)
    theirs = random_policy.model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    for row, their_row, row_logps in zip(ours, theirs.tolist(), logps, strict=True):
        assert row == their_row[: len(row)] and len(row) == len(row_logps)
        assert row[-1] == eos or len(row) == 12


def test_forbidden_tokens_are_never_said(random_policy, inputs):
    options = {"max_new_tokens": 6, "eos_token_id": random_policy.tokenizer.eos_token_id}
    first = {row[0] for row in generate(random_policy.model, inputs, **options)[0]}
    rows, logps = generate(random_policy.model, inputs, forbidden=sorted(first), **options)
    assert not first & {token for row in rows for token in row} and all(p > -100 for row in logps for p in row)


def test_answers_do_not_depend_on_the_batch(random_policy, inputs):
    eos = random_policy.tokenizer.eos_token_id
    together, _ = generate(random_policy.model, inputs, max_new_tokens=10, eos_token_id=eos)
    alone = prepare_inputs(random_policy, [draw_scene("road", 1).image], [ask_detection(DOMAINS["road"].labels)])
    assert generate(random_policy.model, alone, max_new_tokens=10, eos_token_id=eos)[0] == [together[1]]


def completions(n_prompts, per_prompt, length=7):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(20, 200, (n_prompts * per_prompt, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 4:], mask[3, 2:] = 0, 0
    return ids, mask, torch.arange(n_prompts).repeat_interleave(per_prompt)


def stock_logps(model, inputs, ids, mask, prompt_of):
    """Every row with its own prompt and picture, as trl does it."""
    rows = inputs["image_grid_thw"].prod(-1).tolist()
    pixels = torch.split(inputs["pixel_values"], rows)
    full = {k: inputs[k][prompt_of] for k in ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw")}
    full["input_ids"] = torch.cat([full["input_ids"], ids], 1)
    full["attention_mask"] = torch.cat([full["attention_mask"], mask], 1)
    full["mm_token_type_ids"] = torch.cat([full["mm_token_type_ids"], torch.zeros_like(ids)], 1)
    logits = model(**full, pixel_values=torch.cat([pixels[i] for i in prompt_of.tolist()]), use_cache=False).logits
    scores = logits[:, -ids.shape[1] - 1 : -1].log_softmax(-1)
    return scores.gather(2, ids[:, :, None]).squeeze(2), -(scores.exp() * scores).sum(-1)


def test_log_probabilities_entropies_and_gradients_equal_the_stock_path(random_policy, inputs):
    ids, mask, prompt_of = completions(3, 2)
    shuffled = torch.tensor([4, 1, 0, 5, 3, 2])  # trl shuffles a batch before the loss
    ids, mask, prompt_of = ids[shuffled], mask[shuffled], prompt_of[shuffled]
    ours, theirs = copy.deepcopy(random_policy.model), copy.deepcopy(random_policy.model)
    logps, entropy = score_completions(ours, inputs, ids, mask, prompt_of)
    expected, expected_entropy = stock_logps(theirs, inputs, ids, mask, prompt_of)
    assert (((logps - expected) * mask).abs().max()) < 1e-5
    assert (((entropy - expected_entropy) * mask).abs().max()) < 1e-4
    (logps * mask).sum().backward()
    (expected * mask).sum().backward()
    largest = max(p.grad.abs().max() for p in theirs.parameters() if p.grad is not None)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (p.grad - q.grad).abs().max() < 1e-4 * largest, name


def test_sampled_log_probabilities_are_those_of_the_loss(random_policy, inputs):
    torch.manual_seed(3)
    tokens, logps = generate(random_policy.model, inputs, per_prompt=2, temperature=1.0, max_new_tokens=6, eos_token_id=-1)
    ids = torch.tensor(tokens)
    ids[ids < 12] = 30  # special tokens would be read as pictures
    torch.manual_seed(3)
    again, _ = generate(random_policy.model, inputs, per_prompt=2, temperature=1.0, max_new_tokens=6, eos_token_id=-1)
    assert again == tokens  # the global generator repeats
    prompt_of = torch.arange(3).repeat_interleave(2)
    scored, _ = score_completions(random_policy.model, inputs, torch.tensor(tokens), torch.ones_like(ids), prompt_of)
    clean = (torch.tensor(tokens) >= 12).all(1)
    assert clean.any()
    assert (scored.detach() - torch.tensor(logps))[clean].abs().max() < 1e-4


def test_sampling_follows_the_probabilities():
    torch.manual_seed(0)
    p = torch.tensor([0.5, 0.0, 0.3, 0.2])
    drawn = _draw(p.log().expand(20000, -1))
    assert torch.bincount(drawn, minlength=4)[1] == 0
    assert torch.allclose(torch.bincount(drawn, minlength=4) / 20000, p, atol=0.015)
