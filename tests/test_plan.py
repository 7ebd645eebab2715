"""The memory model against measurement: bytes of weights, gradients and optimizer exactly, activations within 15 %."""

from dataclasses import replace

import pytest
import torch
from random_checkpoint import write_checkpoint

from vr1kit.adapters import lora_config
from vr1kit.evaluate import prepare_inputs
from vr1kit.models import freeze_tower, load_policy
from vr1kit.scale.plan import GPUS, Lengths, count_trained, estimate, estimate_activations, read_sizes
from vr1kit.scale.shapes import SHAPES, build_config, count_parameters
from vr1kit.scenes import draw_scene
from vr1kit.settings import Execution, GrpoSettings

PAPER = Lengths(prompt=700, completion=512, image=512)
CHECKPOINTED = Execution(precision="bfloat16", activation_checkpointing=True)


@pytest.fixture(scope="module", params=("qwen2_vl", "qwen2_5_vl", "qwen3_vl"))
def checkpoint(request, tmp_path_factory):
    return write_checkpoint(f"tiny:{request.param}", tmp_path_factory.mktemp("plan") / request.param)


def kept_for_backward(model, inputs) -> int:
    """Bytes of distinct storages that autograd keeps, weights aside: the activations' peak, free of any allocator."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        hidden = model.model(**inputs, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    return sum(size for size, _ in kept.values())


def batch_of(policy, rows=4):
    return prepare_inputs(policy, [draw_scene("toybox", 0).image] * rows, ["Locate every star in the image." * 8] * rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("train_tower", [False, True])
def test_activations_against_what_autograd_keeps(checkpoint, train_tower, dtype):
    policy = load_policy(checkpoint, dtype=dtype)
    if not train_tower:
        freeze_tower(policy.model)
    inputs = batch_of(policy)
    lengths = Lengths(inputs["input_ids"].shape[1], 0, policy.count_image_tokens(192, 192))
    itemsize = 4 if dtype == "float32" else 2
    estimated = estimate_activations(read_sizes(policy.model.config), 4, lengths, GrpoSettings(train_tower=train_tower), itemsize)
    assert kept_for_backward(policy.model.train(), inputs) == pytest.approx(estimated, rel=0.15)


def test_checkpointed_activations_are_the_layers_inputs_and_one_layer(checkpoint):
    policy = load_policy(checkpoint)
    freeze_tower(policy.model)
    inputs, sizes = batch_of(policy), read_sizes(policy.model.config)
    lengths = Lengths(inputs["input_ids"].shape[1], 0, policy.count_image_tokens(192, 192))
    settings = GrpoSettings(execution=Execution(activation_checkpointing=True))
    estimated = estimate_activations(sizes, 4, lengths, settings, 4)
    whole = kept_for_backward(policy.model.train(), inputs)
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    kept = kept_for_backward(policy.model, inputs)
    assert kept + (whole - kept) / sizes.layers == pytest.approx(estimated, rel=0.15)


def test_adapters_keep_less(checkpoint):
    from peft import get_peft_model

    policy = load_policy(checkpoint)
    freeze_tower(policy.model)
    inputs, sizes = batch_of(policy), read_sizes(policy.model.config)
    counts, settings = count_parameters(policy.model.config), GrpoSettings(lora_rank=2)
    adapted = get_peft_model(policy.model, lora_config(2)).train()
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == count_trained(counts, sizes, settings)
    lengths = Lengths(inputs["input_ids"].shape[1], 0, policy.count_image_tokens(192, 192))
    measured = kept_for_backward(adapted.get_base_model(), inputs)
    assert measured == pytest.approx(estimate_activations(sizes, 4, lengths, settings, 4), rel=0.15)


def test_weights_gradients_and_optimizer_to_the_byte(checkpoint):
    model = load_policy(checkpoint).model
    freeze_tower(model)
    counts, config = count_parameters(model.config), model.config
    plan = estimate(config, counts, GrpoSettings(), Lengths(10, 10, 4), dtype="float32", gpu=GPUS["a100-80"])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for p in trained:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert plan.memory["weights"] == sum(p.nbytes for p in model.parameters())
    assert plan.memory["gradients"] == sum(p.grad.nbytes for p in trained)
    moments = [v for state in optimizer.state.values() for v in state.values() if v.dim()]
    assert plan.memory["optimizer"] == sum(v.nbytes for v in moments)


def test_the_cache_to_the_byte(checkpoint):
    policy = load_policy(checkpoint)
    inputs = batch_of(policy, rows=4)
    out = policy.model(**inputs, use_cache=True)
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in out.past_key_values.layers)
    settings = GrpoSettings(prompts_per_step=2, num_generations=2)
    lengths = Lengths(inputs["input_ids"].shape[1], 0, 1)
    plan = estimate(
        policy.model.config, count_parameters(policy.model.config), settings, lengths, dtype="float32", gpu=GPUS["a100-80"]
    )
    assert plan.memory["cache"] == measured


def test_parts_by_hand_for_the_7b_model():
    config = build_config("qwen2.5-vl-7b")
    counts = count_parameters(config)
    full = GrpoSettings(num_generations=4, beta=0.2, train_tower=True, execution=CHECKPOINTED, max_completion_length=512)
    one = estimate(config, counts, full, PAPER, dtype="float32", gpu=GPUS["h100-80"])
    eight = estimate(config, counts, full, PAPER, dtype="float32", sharding="fsdp2", processes=8, gpu=GPUS["h100-80"])
    zero2 = estimate(config, counts, full, PAPER, dtype="float32", sharding="zero2", processes=8, gpu=GPUS["h100-80"])
    n = 8_292_166_656
    assert (one.memory["weights"], one.memory["reference"], one.memory["optimizer"]) == (4 * n, 4 * n, 8 * n)
    assert (eight.memory["weights"], eight.memory["gradients"]) == (n / 2, n / 2)
    assert (zero2.memory["weights"], zero2.memory["optimizer"]) == (4 * n, n)
    assert one.peak > 150e9 > 80e9 > eight.peak and eight.seconds["loss"] < one.seconds["loss"] / 7
    free = estimate(config, counts, replace(full, beta=0.0), PAPER, dtype="float32", gpu=GPUS["h100-80"])
    assert free.memory["reference"] == 0 and free.seconds["loss"] < one.seconds["loss"]


def test_adapters_drop_reference_and_most_of_the_optimizer_and_four_bits_most_of_the_weights():
    config = build_config("qwen2.5-vl-7b")
    counts = count_parameters(config)
    lora = GrpoSettings(num_generations=4, beta=0.2, lora_rank=64, execution=CHECKPOINTED)
    plan = estimate(config, counts, lora, PAPER, gpu=GPUS["a100-80"])
    assert plan.memory["reference"] == 0 and plan.memory["optimizer"] < 0.5e9
    small = estimate(config, counts, lora, PAPER, quantize="4bit", gpu=GPUS["a100-80"])
    assert plan.memory["weights"] - small.memory["weights"] == pytest.approx(counts.linear * 1.47)


def test_what_makes_it_larger_makes_it_larger():
    config = build_config("qwen2.5-vl-3b")
    counts = count_parameters(config)
    base = GrpoSettings(num_generations=4, lora_rank=16, execution=replace(CHECKPOINTED, accumulation=4))
    peak = lambda s=base, lengths=PAPER: estimate(config, counts, s, lengths, gpu=GPUS["rtx4090"]).peak  # noqa: E731
    assert peak() < peak(lengths=replace(PAPER, completion=2048))
    assert peak() < peak(replace(base, prompts_per_step=64))
    assert peak() < peak(replace(base, lora_rank=0))
    assert peak() < peak(replace(base, execution=replace(base.execution, activation_checkpointing=False)))


def test_an_unknown_sharding_is_refused():
    config = build_config(SHAPES["qwen2.5-vl-3b"])
    with pytest.raises(ValueError, match="sharding must be one of none, zero2"):
        estimate(config, count_parameters(config), GrpoSettings(), PAPER, sharding="zero9", gpu=GPUS["a100-80"])
