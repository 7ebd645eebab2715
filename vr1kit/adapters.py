"""Adapters (LoRA) on the attention projections, and the whole weights that they and their base make.

    W = W_base + (alpha / r) B A            Hu et al. 2021, Sec. 4.1

Weights are put together name by name on the CPU, from whatever a training holds: plain, sharded and gathered, or in 4 bits. The
model that trains is not touched and not copied. A base in 4 bits is written as the bfloat16 numbers it stands for: those are what
the adapters were trained on, and they load without bitsandbytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def lora_config(rank: int):
    """Adapters on the attention projections; None for rank 0, which trains all weights."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM")


def merge_state(model, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of the model without adapters: `state`, whole, with theirs added to their base. `model` is asked for its kind only."""
    state = _dequantize(model, dict(state))
    if not hasattr(model, "peft_config"):
        return state
    config = model.peft_config["default"]
    merged = {}
    for name, value in state.items():
        if ".lora_" in name:
            continue
        if name.endswith(".base_layer.weight"):
            down, up = (state[name.replace("base_layer", f"lora_{part}.default")].to(value.device).float() for part in "AB")
            value = (value.float() + config.lora_alpha / config.r * up @ down).to(value.dtype)
        merged[name.removeprefix("base_model.model.").replace(".base_layer.", ".")] = value
    return merged


def save_merged(model, state: Mapping[str, torch.Tensor], folder) -> None:
    """Write a model's weights and configuration without adapters and quantization."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    merged = merge_state(model, state)
    if _is_quantized(base):
        base = _without_quantization(base)
    base.save_pretrained(folder, state_dict=merged)


def _is_quantized(model) -> bool:
    return getattr(model, "hf_quantizer", None) is not None


def _dequantize(model, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not _is_quantized(base):
        return state
    from peft.utils.integrations import dequantize_module_weight

    for name, module in model.named_modules():
        packed = f"{name}.weight" in state and getattr(module.weight, "quant_state", None) is not None
        if packed:
            state = {key: value for key, value in state.items() if not key.startswith(f"{name}.weight.")}  # its constants
            state[f"{name}.weight"] = dequantize_module_weight(module).detach().to("cpu", torch.bfloat16)
    return state


def _without_quantization(model):
    """Its class and configuration on the meta device: all that is needed to write weights that are given."""
    import copy

    config = copy.deepcopy(model.config)
    del config.quantization_config
    with torch.device("meta"):
        empty = type(model)(config)
    empty.generation_config = model.generation_config
    return empty
