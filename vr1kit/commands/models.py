"""Subcommands for real models: plan, train, evaluate. Declared here, listed in `vr1kit.cli`; heavy imports only where they run."""

import argparse
import os
from pathlib import Path
from typing import Any

from vr1kit.commands.arguments import add_subcommand, parse_value


def add_plan(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "plan", run_plan, "say what a real model's profile needs: memory by part, tokens, time", """\
examples:
  vr1kit plan --profile qwen2.5-vl-7b
  vr1kit plan --profile qwen2.5-vl-7b-lora --gpu rtx4090 -p execution.accumulation 16
  vr1kit plan --profile qwen2.5-vl-3b-lora --model PATH --data FOLDER      # with the lengths of your data

Nothing is loaded but configuration and data. An estimate: see vr1kit/scale/plan.py.""")  # fmt: skip
    _add_request(parser)
    parser.add_argument("--gpu", metavar="NAME", help="rtx4090, a100-80 or h100-80 (the profile's)")


def add_train(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "train", run_train, "train a real model on a dataset, in one process or many", """\
examples:
  vr1kit train --profile tiny --data runs/tiny/data/scenes/train/toybox
  vr1kit train --profile qwen2.5-vl-3b-lora --model PATH --data coco --split train2017
  vr1kit train --profile qwen2.5-vl-7b --data coco --split train2017 --processes 8 \\
      --accelerate configs/accelerate/fsdp2.yaml
  accelerate launch --config_file configs/accelerate/multi_node.yaml -m vr1kit.cli train --profile qwen2.5-vl-7b --data coco

The batch, the lengths and the GPU's memory are checked before anything is loaded. The same command
continues what was interrupted, also on another number of processes. Results: runs/RUN/training/LABEL.""")  # fmt: skip
    _add_request(parser)
    parser.add_argument("--method", choices=("grpo", "sft"), default="grpo", help="the method or the baseline (grpo)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes on this machine (1)")
    parser.add_argument("--accelerate", type=Path, metavar="FILE", help="start them by accelerate with this configuration")


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", required=True, metavar="NAME", help="see `vr1kit profiles`")
    parser.add_argument("--model", metavar="PATH", help="a folder or a hub name (the profile's)")
    parser.add_argument("--revision", metavar="COMMIT", help="pins a hub model")
    parser.add_argument("--family", metavar="NAME", help="griffon, for models that answer in plain text (by the model's class)")
    parser.add_argument("--quantize", choices=("4bit", "8bit"), help="adapters on a base of 4 or 8 bits (the profile's: none)")
    parser.add_argument("--attention", metavar="NAME", help="flash_attention_2, sdpa or eager (transformers' own choice)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a detection dataset in any known format")
    parser.add_argument("--split", metavar="NAME", help="which split of it")
    parser.add_argument("--run", default="models", metavar="NAME", help="folder under runs/ (models)")
    parser.add_argument("--label", default="", metavar="NAME", help="what to call the training (profile and method)")
    parser.add_argument(
        "-p", "--setting", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="change a setting of the profile, such as steps 100 or execution.accumulation 4; repeatable",
    )  # fmt: skip


def _request(arguments: argparse.Namespace, method: str = "grpo"):
    from dataclasses import replace

    from vr1kit.scale.model_profiles import get_model_profile
    from vr1kit.scale.model_runs import Request, change_settings
    from vr1kit.settings import SftSettings

    profile = get_model_profile(arguments.profile)
    wishes = {name: getattr(arguments, name) for name in ("quantize", "attention") if getattr(arguments, name)}
    profile = replace(profile, **wishes)
    settings = profile.settings
    if method == "sft":
        settings = SftSettings(
            learning_rate=2 * settings.learning_rate, batch=128 if profile.shape else 32, seed=settings.seed,  # paper: 2e-6, 128
            lora_rank=settings.lora_rank, train_tower=settings.train_tower, execution=settings.execution,
        )  # fmt: skip
    settings = change_settings(settings, {"execution.trackers": ["tensorboard"]})  # the tracker that needs no account
    settings = change_settings(settings, {name: parse_value(text) for name, text in arguments.setting})
    model = arguments.model or profile.model
    return Request(
        profile, model, arguments.data, arguments.split, method, arguments.family, arguments.revision, settings,
        arguments.run, arguments.label,
    )  # fmt: skip


def run_plan(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from vr1kit.scale import model_runs

    request = _request(arguments)
    profile = replace(request.profile, settings=request.settings)
    name, gpu = model_runs.choose_hardware(profile, arguments.gpu)
    config = None
    if arguments.data:
        prepared = model_runs.prepare(request, profile.gpus)
        profile = replace(profile, lengths=prepared.lengths)
    if arguments.model:
        from vr1kit.models import load_policy

        config = load_policy(arguments.model, weights=False).config
    plan = model_runs.plan_profile(profile, gpu, profile.gpus, config)
    print("\n".join(model_runs.describe_plan(profile, plan, name, gpu, profile.gpus)))
    return 0


def run_train(arguments: argparse.Namespace) -> int:
    if arguments.data is None:
        raise ValueError("train needs --data FOLDER, a detection dataset")
    from vr1kit.scale import model_runs
    from vr1kit.scale.launcher import follow, launch
    from vr1kit.scale.ways import read_way

    request = _request(arguments, arguments.method)
    processes = int(os.environ.get("WORLD_SIZE", arguments.processes))
    inside = "RANK" in os.environ  # started by accelerate, torchrun or ourselves
    way = read_way(None if inside else arguments.accelerate, os.environ)
    prepared = model_runs.prepare(request, processes, way)
    if not inside and (arguments.processes > 1 or arguments.accelerate):
        log = prepared.step.run.path / "logs" / f"{request.step_name.split('/')[-1]}.log"
        rows = follow(prepared.step.path / "log.jsonl")
        launch(arguments.words, arguments.processes, log, arguments.accelerate, on_poll=rows)
    else:
        model_runs.train(prepared)
    if os.environ.get("RANK", "0") == "0":
        print(f"trained: {prepared.step.path / 'model'}")
    return 0
