"""Imports point one way only, and the reward side of the kit needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vr1kit.provenance import imported_modules

PACKAGE = Path(__file__).parents[1] / "vr1kit"
# A module may import those before it, never those after it. A new module gets its place here.
ORDER = (
    "boxes", "coordinates", "detections", "scan", "completions", "plain_text", "matching", "criteria", "precision", "rewards", "baselines",  # what an answer is worth: no torch
    "files", "provenance", "manifests", "places", "differences", "locks", "disks", "runs", "checkpoints", "interruption", "failures", "verify",  # where results live: standard library and numpy
    "prompts", "families", "backgrounds", "sprites", "scenes", "records", "folders", "images", "json_arrays", "columns", "coco", "coco_stream", "odinw", "voc", "yolo", "phrase_sets", "hub_sets", "readers", "filters", "data", "accuracy", "shards", "cards", "engines", "curation", "leakage", "recipes", "scoring", "doctor", "probes", "tokens", "confidence", "protocols",  # what there is to see and to ask
    "credit", "settings", "profiles", "jobs",  # how much of it, and by which rules
    "tiny", "models", "shapes", "instruction", "pretrain", "decoding", "plan", "model_profiles", "checks", "monitor", "training", "grpo", "sft",  # who answers, and how it learns
    "intervals", "evaluate", "outcomes", "errors", "scorecard", "asking", "export", "launcher", "evaluations", "study", "workers", "model_runs", "publish", "results",  # what came of it
    "tables", "paper_tables", "summary", "style", "pictures", "method_figures", "evaluation_figures", "figures", "page", "gallery", "comparison", "rebuild", "report",  # and how it is shown
    "terminal", "reproduce", "rerun", "refresh", "subcommands", "run_commands", "data_commands", "evaluation_commands", "model_commands", "cli",  # how it is started
)  # fmt: skip
WITHOUT_TORCH = (
    "boxes",
    "coordinates",
    "completions",
    "families",
    "matching",
    "criteria",
    "rewards",
    "baselines",
    "data",
    "readers",
    "runs",
    "scoring",
    "probes",
    "confidence",
    "protocols",
    "outcomes",
    "errors",
    "scorecard",
    "curation",
    "leakage",
    "doctor",
    "data_commands",
)
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))


def offences(module: str, imported: frozenset[str]) -> list[str]:
    """What a module at this place must not import."""
    later = ORDER[ORDER.index(module) :]
    return sorted(name for name in imported if name in later)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_those_before_it(module):
    assert module in ORDER, f"{module} has no place yet: put it into ORDER"
    imported = imported_modules(ast.parse((PACKAGE / f"{module}.py").read_text()))
    assert not offences(module, imported), f"{module} imports later modules"


def test_the_test_can_fail():
    source = "def f():\n    from vr1kit.grpo import train\n    from vr1kit import cli, boxes\n    from .figures import draw\n"
    source += "import vr1kit.evaluate as e\nimport numpy\nfrom numpy import grpo\n"
    imported = imported_modules(ast.parse(source))
    assert imported == {"grpo", "cli", "boxes", "figures", "evaluate"}
    assert offences("rewards", imported) == ["cli", "evaluate", "figures", "grpo"]
    assert offences("grpo", imported) == ["cli", "evaluate", "figures", "grpo"], "nor may a module import itself"


def test_the_package_itself_imports_nothing():
    assert not imported_modules(ast.parse((PACKAGE / "__init__.py").read_text()))


def test_rewards_parsing_matching_and_curation_import_without_torch():
    absent = ["torch", "transformers", "trl", "peft", "accelerate"]
    script = f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
    script += "".join(f"import vr1kit.{module}\n" for module in WITHOUT_TORCH)
    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_and_says_what_it_is_for(module):
    source = (PACKAGE / f"{module}.py").read_text()
    assert ast.get_docstring(ast.parse(source)), f"{module} has no docstring"
    assert source.count("\n") <= 400, f"{module} has more than 400 lines: split it"
