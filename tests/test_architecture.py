"""Imports point one way only, and the reward side of the kit needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vr1kit.safekeeping.provenance import imported_modules, module_name

PACKAGE = Path(__file__).parents[1] / "vr1kit"
# A module may import those before it, never those after it. A new module gets its place here.
ORDER = (
    "boxes", "coordinates", "parsing.detections", "parsing.budget", "parsing.findings", "parsing.flat_items", "parsing.frames", "parsing.fields", "parsing.picks", "parsing.strings", "parsing.scan", "completions", "parsing.plain_text", "matching", "criteria", "precision", "rewards", "baselines",  # what an answer is worth: no torch
    "safekeeping.files", "safekeeping.provenance", "safekeeping.manifests", "safekeeping.places", "safekeeping.differences", "safekeeping.locks", "safekeeping.disks", "runs", "safekeeping.checkpoints", "safekeeping.interruption", "safekeeping.failures", "safekeeping.verify",  # where results live: standard library and numpy
    "prompts", "annotators", "families", "toy.backgrounds", "toy.sprites", "scenes", "records", "formats.folders", "formats.images", "formats.json_arrays", "formats.columns", "formats.coco", "formats.coco_stream", "formats.odinw", "formats.voc", "formats.yolo", "formats.phrase_sets", "formats.hub_sets", "formats.question_sets", "formats.readers", "filters", "data", "measures.accuracy", "curation.shards", "curation.cards", "curation.engines", "curation.sets", "curation.leakage", "curation.recipes", "scoring", "curation.doctor", "probes", "tokens", "measures.confidence", "measures.protocols",  # what there is to see and to ask
    "credit", "settings", "profiles", "jobs",  # how much of it, and by which rules
    "toy.tiny", "models", "scale.ranks", "scale.shapes", "toy.instruction", "toy.pretrain", "decoding", "scale.plan", "scale.model_profiles", "scale.ways", "scale.checks", "monitor", "adapters", "training", "grpo", "sft",  # who answers, and how it learns
    "measures.intervals", "evaluate", "measures.outcomes", "measures.errors", "measures.resampling", "measures.scorecard", "tasks", "asking", "export", "scale.servers", "scale.launcher", "evaluations", "study", "workers", "scale.model_runs", "publish", "results",  # what came of it
    "reporting.tables", "reporting.paper_tables", "reporting.summary", "reporting.trials", "drawing.style", "drawing.pictures", "drawing.method", "drawing.evaluation", "figures", "reporting.page", "reporting.gallery", "reporting.comparison", "reporting.rebuild", "reporting.report",  # and how it is shown
    "terminal", "reproduce", "rerun", "refresh", "commands.arguments", "commands.runs", "commands.data", "commands.evaluation", "commands.models", "cli",  # how it is started
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
    "formats.readers",
    "runs",
    "scoring",
    "probes",
    "measures.confidence",
    "measures.protocols",
    "measures.outcomes",
    "measures.errors",
    "measures.scorecard",
    "curation.sets",
    "curation.leakage",
    "curation.doctor",
    "commands.data",
)
MODULES = sorted(module_name(path) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__"))


def read_tree(module: str) -> ast.AST:
    return ast.parse(PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text())


def offences(module: str, imported: frozenset[str]) -> list[str]:
    """What a module at this place must not import."""
    later = ORDER[ORDER.index(module) :]
    return sorted(name for name in imported if name in later)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_those_before_it(module):
    assert module in ORDER, f"{module} has no place yet: put it into ORDER"
    imported = imported_modules(read_tree(module))
    assert not offences(module, imported), f"{module} imports later modules"


def test_the_test_can_fail():
    source = (
        "def f():\n    from vr1kit.grpo import train\n    from vr1kit import cli, boxes\n    from vr1kit.drawing import style\n"
    )
    source += "import vr1kit.evaluate as e\nimport numpy\nfrom numpy import grpo\n"
    imported = imported_modules(ast.parse(source))
    assert offences("rewards", imported) == ["cli", "drawing.style", "evaluate", "grpo"]
    assert offences("grpo", imported) == ["cli", "drawing.style", "evaluate", "grpo"], "nor may a module import itself"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_a_package_imports_nothing_and_says_what_it_is_for(path):
    tree = ast.parse(path.read_text())
    assert not imported_modules(tree) and ast.get_docstring(tree)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_rewards_parsing_matching_and_curation_import_without_torch():
    absent = ["torch", "transformers", "trl", "peft", "accelerate"]
    script = f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
    script += "".join(f"import vr1kit.{module}\n" for module in WITHOUT_TORCH)
    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_and_says_what_it_is_for(module):
    assert ast.get_docstring(read_tree(module)), f"{module} has no docstring"
    source = PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text()
    assert source.count("\n") <= 400, f"{module} has more than 400 lines: split it"
