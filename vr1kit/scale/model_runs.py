"""Training a real model on a dataset: checked first, then run in one process or in each of many, as a step of a run.

    runs/NAME/training/LABEL/   model/, model-STAGE/, log.jsonl, findings.jsonl, checkpoints/

`prepare` reads the data, the processor and the configuration and refuses what cannot work, before any weights are loaded.
`train` is what each process runs; the first one writes. A checkpoint goes on with the same settings, data and package versions
only, but on any number of processes: how a step is shared out (`settings.execution`) is no part of what it is.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from vr1kit.data import Example, Part, curate, to_dataset
from vr1kit.filters import Limits, find_reasons
from vr1kit.formats.readers import open_dataset
from vr1kit.records import DetectionSet, shorten
from vr1kit.runs import ATTEMPT, CHECKPOINTS, Step, open_run, read_json
from vr1kit.safekeeping.checkpoints import find_last, find_last_sealed, number_of
from vr1kit.safekeeping.files import digest, file_hash, to_jsonable
from vr1kit.safekeeping.provenance import describe_machine
from vr1kit.scale.checks import (
    Refused,
    check_batch,
    check_lengths,
    check_memory,
    check_packages,
    check_served_pixels,
    check_shards,
    check_versions,
    check_way,
    find_gpu,
)
from vr1kit.scale.model_profiles import ModelProfile
from vr1kit.scale.plan import GB, GPUS, SHARDINGS, Gpu, Lengths, Plan, estimate
from vr1kit.scale.ways import Way
from vr1kit.settings import Execution, GrpoSettings, SftSettings

VERSIONS = ("torch", "transformers", "trl", "peft", "accelerate")  # whose change can change what a checkpoint means


@dataclass(frozen=True)
class Request:
    """What is asked for: a profile, and what differs from it."""

    profile: ModelProfile
    model: str
    data: Path
    split: str | None = None
    method: str = "grpo"  # or sft
    family: str | None = None
    revision: str | None = None
    settings: GrpoSettings | SftSettings = GrpoSettings()
    run: str = "models"
    label: str = ""

    @property
    def step_name(self) -> str:
        return f"training/{self.label or f'{self.profile.name}-{self.method}'}"


@dataclass(frozen=True)
class Prepared:
    """A request whose parts fit together."""

    request: Request
    examples: Sequence[Example]
    root: Path  # image paths are below it
    lengths: Lengths  # as measured on the data
    plan: Plan | None  # None on a CPU
    step: Step


def change_settings(settings: GrpoSettings | SftSettings, changes: Mapping[str, Any]) -> GrpoSettings | SftSettings:
    """Settings with some fields changed; `execution.NAME` reaches how they are run.

    Raises ValueError for an unknown name and for a value of another type than the field's.
    """
    mine, how = {}, {}
    for name, value in changes.items():
        target, of = (how, Execution) if name.startswith("execution.") else (mine, type(settings))
        short, kinds = name.removeprefix("execution."), get_type_hints(of)
        if short not in kinds:
            raise ValueError(f"there is no setting {shorten(name)}; there are: {', '.join(kinds)}")
        target[short] = _check_value(name, value, kinds[short])
    return replace(settings, **mine, **({"execution": replace(settings.execution, **how)} if how else {}))


def load_options(request: Request) -> dict[str, Any]:
    """What `load_policy` is asked for, beside the model."""
    p = request.profile
    return {
        "dtype": p.dtype, "revision": request.revision, "family": request.family, "attention": p.attention or None,
        "quantize": p.quantize, "bound_pixels": p.bound_pixels,
    }  # fmt: skip


def _check_value(name: str, value: Any, kind: Any) -> Any:
    """The value as a field of this type has it: lists as tuples, whole numbers as floats where floats are asked for."""
    try:
        found = msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError, RecursionError, UnicodeError) as error:
        raise ValueError(f"the setting '{name}' cannot be {shorten(value)}: {error}") from None
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError(f"the setting '{name}' cannot be {found}: give a finite number")
    return found


def choose_examples(data: DetectionSet, wanted: int, seed: int) -> list[Example]:
    """At most so many examples, each picture once; labels that are phrases are asked for one at a time."""
    usable = sum(not find_reasons(record, Limits(), data.phrases) for record in data.records)
    if not usable:
        raise Refused(f"{data.annotations}: no picture has 1 to {Limits().max_instances} objects with sides of 4 px; give others")
    task = "grounding" if data.phrases else "detection"
    return curate({data.name: data}, [Part("all", (data.name,), task, min(usable, wanted))], seed)[0]


def prepare(request: Request, processes: int, way: Way | None = None) -> Prepared:
    """Read data, processor and configuration; refuse what cannot work. Loads no weights. way None: the profile's sharding."""
    from vr1kit.models import load_policy

    s = request.settings
    check_packages(s.execution)
    if way:
        check_way(way, s.execution)
    if isinstance(s, GrpoSettings):
        check_batch(s, processes)
        wanted = s.steps * s.prompts_per_step
    else:
        wanted = 10**9
    own = load_policy(request.model, **{**load_options(request), "bound_pixels": False}, weights=False)
    policy = load_policy(request.model, **load_options(request), weights=False)
    seen, trained = (p.processor.image_processor.size["longest_edge"] for p in (own, policy))
    check_served_pixels(s.execution, seen, trained, request.model)
    data = open_dataset(request.data, request.split)
    examples = [replace(e, prompt=policy.family.reword(e.prompt)) for e in choose_examples(data, wanted, s.seed)]
    lengths = measure_lengths(policy, examples, s)
    root = Path(os.path.commonpath([e.record.image_path.resolve().parent for e in examples]))
    examples = [replace(e, record=replace(e.record, image_path=e.record.image_path.resolve())) for e in examples]
    plan = None
    if (found := find_gpu()) and isinstance(s, GrpoSettings):
        profile = replace(request.profile, settings=s, lengths=lengths)
        if way and way.sharding in SHARDINGS:
            profile = replace(profile, sharding=way.sharding)
        plan = plan_profile(profile, found[1], processes, policy.config)
        check_memory(plan, found[1], request.profile.name)
    config = {
        "model": request.model, "revision": request.revision, "family": request.family, "method": request.method, "seed": s.seed,
        "dtype": request.profile.dtype, "quantize": request.profile.quantize,
        "attention": request.profile.attention,
        "settings": {k: v for k, v in asdict(s).items() if k != "execution"},
        "versions": {name: version for name, version in describe_machine()["packages"].items() if name in VERSIONS},
    }  # fmt: skip
    inputs = {
        "data": digest([[e.record.image_path.name, e.prompt, e.labels, e.boxes_xyxy_px.tolist()] for e in examples]),
        "model": _describe_weights(Path(request.model)),
    }
    step = open_run(request.run).step(request.step_name, to_jsonable(config), inputs, code=[])
    refuse_mixed(step)
    if way and (last := find_last_sealed(step.path / CHECKPOINTS)):
        check_shards(last, way, processes)
    return Prepared(request, examples, root, lengths, plan, step)


def measure_lengths(policy, examples: Sequence[Example], settings: GrpoSettings | SftSettings) -> Lengths:
    """Tokens of the longest question, answer and picture of the data; refuses what does not fit."""
    count = lambda text: len(policy.tokenizer(text)["input_ids"])  # noqa: E731
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ""}]}]
    around = count(policy.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    pictures: dict[str, int] = {}
    answers = []
    for e in examples:
        tokens = policy.count_image_tokens(e.record.width, e.record.height)
        pictures[e.prompt] = max(pictures.get(e.prompt, 0), tokens)
        boxes, _ = policy.write_boxes(e.boxes_xyxy_px, e.record.width, e.record.height)
        answers.append(policy.family.write(boxes, e.labels))
    limit = settings if isinstance(settings, GrpoSettings) else GrpoSettings(max_completion_length=max(map(count, answers)) + 1)
    context = policy.config.get_text_config().max_position_embeddings
    prompt, _ = check_lengths(limit, answers, {text: n + around for text, n in pictures.items()}, count, context)
    return Lengths(prompt, limit.max_completion_length, max(pictures.values()))


def plan_profile(profile: ModelProfile, gpu: Gpu, processes: int, config=None) -> Plan:
    """The plan of a profile on some hardware; config is the model's own where it is at hand."""
    from vr1kit.scale.shapes import build_config, count_parameters

    config = config or build_config(profile.shape)
    return estimate(
        config, count_parameters(config), profile.settings, profile.lengths, dtype=profile.dtype, quantize=profile.quantize,
        sharding=profile.sharding if processes > 1 else "none", processes=processes, gpu=gpu,
    )  # fmt: skip


def describe_plan(profile: ModelProfile, plan: Plan, gpu_name: str, gpu: Gpu, processes: int) -> list[str]:
    """`vr1kit plan`'s lines."""
    s, width = profile.settings, max(map(len, plan.memory))
    hours = s.steps * plan.step_seconds / 3600
    lines = [
        f"{profile.name}: {profile.purpose}",
        f"  command   {profile.command}",
        f"  aims at   {profile.aims_at}",
        f"  hardware  {processes} x {gpu_name}, {gpu.memory / GB:.0f} GB each; sharding {profile.sharding if processes > 1 else 'none'}",
        f"  steps     {s.steps} of {s.prompts_per_step} prompts x {s.num_generations} answers, at most {plan.tokens_per_step:,} tokens each",
        f"  time      {plan.step_seconds:.0f} s a step ({', '.join(f'{k} {v:.0f}' for k, v in plan.seconds.items())}), {hours:.1f} h in all",
        "  memory of one GPU, GB:",
    ]
    lines += [f"    {name:<{width}}  {value / GB:6.2f}" for name, value in plan.memory.items()]
    fits = "fits" if plan.peak <= gpu.memory else "does NOT fit"
    lines.append(f"    {'peak':<{width}}  {plan.peak / GB:6.2f}   {fits}")
    return [*lines, "  an estimate (`vr1kit/scale/plan.py` says how); not measured on a GPU"]


def choose_hardware(profile: ModelProfile, gpu: str | None) -> tuple[str, Gpu]:
    """The GPU to plan for: one by name, else the profile's. Raises ValueError."""
    name = gpu or profile.gpu
    if name not in GPUS:
        what = f"GPU '{name}' is not known" if name else f"profile '{profile.name}' runs on a CPU, there is nothing to plan"
        raise ValueError(f"{what}; GPUs are {', '.join(GPUS)}")
    return name, GPUS[name]


def _describe_weights(folder: Path) -> str:
    """What identifies a checkpoint on disk without reading all of it; a hub model is named by the config already."""
    if not folder.is_dir():
        return "hub"
    sizes = [[f.name, f.stat().st_size] for f in sorted(folder.glob("*.safetensors"))]
    return digest([sizes, file_hash(folder / "config.json")])


def refuse_mixed(step: Step) -> None:
    """An interrupted attempt with checkpoints goes on with the same settings, data and versions, or not at all."""
    if not (step.has("attempt.json") and any((step.path / CHECKPOINTS).glob("checkpoint-*"))):
        return
    then, now = read_json(step.path / "attempt.json"), step.request()
    check_versions(then["config"]["versions"], now["config"]["versions"], str(step.path / CHECKPOINTS))
    old, new = {**then["config"], **then["config"]["settings"]}, {**now["config"], **now["config"]["settings"]}
    changed = [f"{k} {old.get(k)} then, {new[k]} now" for k in new if k not in ("settings", "versions") and old.get(k) != new[k]]
    changed += [f"other {k}" for k in now["inputs"] if now["inputs"][k] != then["inputs"].get(k)]
    if changed:
        where = step.path / CHECKPOINTS
        raise Refused(
            f"the checkpoint in {where} was made with {', '.join(changed)}; ask for the same, name another --label, or delete it"
        )


def refuse_unshared(step: Step, patience: float = 60.0) -> None:
    """Every process must see what the first one writes. Network file systems may take their time (`patience`, seconds)."""
    from vr1kit.scale.ranks import anybody

    deadline = time.monotonic() + patience
    while not (seen := step.has(ATTEMPT)) and time.monotonic() < deadline:
        time.sleep(0.5)
    if anybody(not seen):
        what = f"not every process sees {step.path}, where the first one writes"
        raise Refused(f"{what}; point VR1KIT_RUNS to a folder that all machines share")


def with_context(settings: GrpoSettings | SftSettings, lengths: Lengths) -> GrpoSettings | SftSettings:
    """With room for the longest question and answer in a colocated vLLM, unless the settings say how much."""
    e = settings.execution
    if e.vllm != "colocate" or e.vllm_context:
        return settings
    return replace(settings, execution=replace(e, vllm_context=lengths.prompt + settings.max_completion_length))


def train(prepared: Prepared, show: bool = True) -> Step:
    """Train in this process, alone or as one of many. Found again if it is done."""
    import torch
    from accelerate import PartialState

    from vr1kit.models import load_policy

    request, step, s = prepared.request, prepared.step, prepared.request.settings
    state = PartialState(cpu=not torch.cuda.is_available())
    if step.state() == "done":
        return step
    state.wait_for_everyone()  # all have looked before the first one writes
    if state.is_main_process and step.begin():
        last = number_of(find_last(step.path / CHECKPOINTS))
        step.trim_log(lambda row: row["step"] <= last)
    state.wait_for_everyone()
    refuse_unshared(step)
    policy = load_policy(request.model, **load_options(request))
    dataset = to_dataset(prepared.examples, policy.write_boxes, prepared.root)
    if request.method == "sft":
        from vr1kit.sft import train_sft as run
    else:
        from vr1kit.grpo import train_grpo as run
    run(
        policy,
        dataset,
        prepared.root,
        with_context(s, prepared.lengths),
        step.path,
        step.append_log,
        show,
        save_to=step.path / "model",
    )
    if state.is_main_process:
        rows = step.read_log()
        step.finish(
            {"steps": rows[-1]["step"], "processes": state.num_processes, **{k: v for k, v in rows[-1].items() if k != "step"}}
        )
    state.wait_for_everyone()
    return step
