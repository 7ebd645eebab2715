"""Refusals: what cannot work is said before anything is loaded or trained, in one line, with the number to change."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vr1kit.scale.plan import GB, GPUS, Gpu, Plan
from vr1kit.scale.ways import Way, read_checkpoint
from vr1kit.settings import Execution, GrpoSettings


class Refused(ValueError):
    """A training that cannot work as asked; the message is one line and names the number to change."""


def check_batch(settings: GrpoSettings, processes: int) -> None:
    """A step's rows must fall into equal micro-batches, and groups must stay whole where credit compares their answers."""
    rows, parts = settings.prompts_per_step * settings.num_generations, processes * settings.execution.accumulation
    if rows % parts:
        what = f"{settings.prompts_per_step} prompts x {settings.num_generations} generations = {rows} rows a step"
        how = f"{processes} processes x accumulation {settings.execution.accumulation}"
        raise Refused(f"{what} do not divide by {how} = {parts}; set prompts_per_step to a multiple of {_step(settings, parts)}")
    if settings.credit == "object" and settings.prompts_per_step % processes:
        what = f'credit "object" keeps a group in one process: {settings.prompts_per_step} prompts do not divide by {processes}'
        raise Refused(f"{what} processes; set prompts_per_step to a multiple of {processes}")


def _step(settings: GrpoSettings, parts: int) -> int:
    """The smallest number of prompts that divides."""
    return next(n for n in range(1, parts + 1) if n * settings.num_generations % parts == 0)


def check_lengths(
    settings: GrpoSettings, answers: Sequence[str], prompts: Mapping[str, int], count_tokens: Callable[[str], int], context: int
) -> tuple[int, int]:
    """The longest right answer must fit the completion limit, and the longest question with it the context.

    answers: a right answer to each example; prompts: question -> tokens that come on top of its text (picture, template).
    Returns (tokens of the longest question, of the longest answer, end token included). Raises Refused.
    """
    longest_answer = max((count_tokens(text) for text in sorted(set(answers), key=len)[-64:]), default=0) + 1
    if longest_answer > settings.max_completion_length:
        what = f"the right answer about the densest picture has {longest_answer} tokens"
        raise Refused(f"{what}, max_completion_length is {settings.max_completion_length}; set it to {longest_answer} or more")
    longest_prompt = max((more + count_tokens(text) for text, more in prompts.items()), default=0)
    if longest_prompt + settings.max_completion_length > context:
        what = f"the longest question has {longest_prompt} tokens, {settings.max_completion_length} more may be answered"
        room = context - longest_prompt
        how = f"set max_completion_length to at most {room}" if room >= longest_answer else "lower max_pixels, or drop categories"
        raise Refused(f"{what}, and the model's context is {context}; {how}")
    return longest_prompt, longest_answer


def check_memory(plan: Plan, gpu: Gpu, name: str) -> None:
    """The plan's peak must fit the GPU."""
    if plan.peak > gpu.memory:
        largest = max((k for k in plan.memory if k != "reserve"), key=lambda k: plan.memory[k])
        need, have = plan.peak / GB, gpu.memory / GB
        what = f"'{name}' needs {need:.0f} GB on each GPU, this one has {have:.0f}; the largest part is {largest}"
        raise Refused(f"{what}, {plan.memory[largest] / GB:.0f} GB; {REMEDIES.get(largest, 'take a larger GPU')}")


REMEDIES = {
    "weights": "shard them (--accelerate configs/accelerate/fsdp2.yaml over more GPUs), or quantize 4bit",
    "reference": "set beta 0, or a lora_rank: adapters are switched off instead",
    "gradients": "set a lora_rank, or shard over more GPUs",
    "optimizer": "set a lora_rank, or shard over more GPUs",
    "activations": "raise execution.accumulation, or set execution.activation_checkpointing",
    "cache": "lower prompts_per_step, or take more GPUs",
    "sampling_logits": "lower prompts_per_step, or take more GPUs",
}


def find_gpu() -> tuple[str, Gpu] | None:
    """The first GPU of this machine by name, with its own memory; speeds of the nearest of GPUS. None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    nearest = min(GPUS.values(), key=lambda gpu: abs(gpu.memory - properties.total_memory))
    return properties.name, Gpu(properties.total_memory, nearest.operations, nearest.bandwidth)


NEEDS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "colocate": "vllm", "server": "vllm"}


def check_packages(execution: Execution) -> None:
    """Trackers and vLLM must be installed where a field asks for them."""
    for wish in (*execution.trackers, *filter(None, (execution.vllm,))):
        if importlib.util.find_spec(NEEDS[wish]) is None:
            field = "vllm" if NEEDS[wish] == "vllm" else "trackers"
            raise Refused(
                f"execution.{field} asks for {wish}, and the package {NEEDS[wish]} is not installed; pip install {NEEDS[wish]}, or drop it"
            )


def check_served_pixels(execution: Execution, seen: int, trained: int, model: str) -> None:
    """vLLM reads the bound on a picture's pixels from the checkpoint; rollouts and loss must see the same picture."""
    if execution.vllm and seen != trained:
        what = f"vLLM shows pictures of up to {seen:,} px, as {model} says, and training {trained:,}"
        raise Refused(
            f"{what}; give it a copy whose preprocessor_config.json has {trained} as size.longest_edge (links to its weights will do)"
        )


def check_way(way: Way, execution: Execution) -> None:
    """What accelerate is told must be installed, and must compute as the settings say."""
    shards = way.sharding.startswith("zero")
    if shards and importlib.util.find_spec("deepspeed") is None:
        what = "the configuration of accelerate asks for DeepSpeed, and the package deepspeed is not installed"
        raise Refused(f"{what}; pip install deepspeed, or take configs/accelerate/fsdp2.yaml")
    wanted = {"bfloat16": "bf16", "float32": "no"}[execution.precision]
    # a plain "no" is also what accelerate says where it was told nothing, and then the settings count, but not with DeepSpeed
    if way.precision not in ("", wanted) and (shards or way.precision != "no"):
        what = (
            f"the configuration of accelerate has mixed_precision {way.precision}, execution.precision is {execution.precision}"
        )
        how = (
            "" if way.precision == "fp16" else f" -p execution.precision {'float32' if way.precision == 'no' else 'bfloat16'}, or"
        )
        raise Refused(f"{what}; take{how} mixed_precision '{wanted}' there")


def check_shards(checkpoint: Path, way: Way, processes: int) -> None:
    """A checkpoint goes on in the way in which it was written (`vr1kit.scale.ways`)."""
    names = {"none": "whole weights", "fsdp2": "FSDP2", "zero": "DeepSpeed", "zero2": "ZeRO-2", "zero3": "ZeRO-3"}
    then, many = read_checkpoint(checkpoint)
    if not (then == way.sharding or (way.sharding == "zero" and many)):
        what = f"{checkpoint} was written with {names[then]}, and this training has {names.get(way.sharding, way.sharding)}"
        raise Refused(f"{what}; start it with the same --accelerate, name another --label, or delete it")
    if many not in (0, processes):
        what = f"{checkpoint} was written by {many} processes of DeepSpeed's, whose shards {processes} cannot read"
        raise Refused(f"{what}; start {many}, name another --label, or delete it")


def check_versions(then: Mapping[str, str], now: Mapping[str, str], folder: str) -> None:
    """A checkpoint goes on with the packages that wrote it."""
    moved = [f"{name} {then[name]} then, {now.get(name)} now" for name in then if then[name] != now.get(name)]
    if moved:
        raise Refused(f"the checkpoint in {folder} was written with {', '.join(moved)}; install those versions, or delete it")
