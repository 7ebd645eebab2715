"""The command `vr1kit`: one function per subcommand, heavy imports only inside them.

To add a subcommand: write `add_NAME(subcommands)`, which declares it, and `run_NAME(arguments) -> int`, which
returns the exit code; then name `add_NAME` in SUBCOMMANDS. Bad input is a ValueError or OSError with one line that
says what is wrong and what to do: it becomes exit code 2 without a traceback.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from vr1kit import __version__
from vr1kit.commands.arguments import add_subcommand, parse_value
from vr1kit.commands.data import add_curate, add_doctor, add_leakage
from vr1kit.commands.evaluation import add_compare, add_evaluate, add_export, add_tables
from vr1kit.commands.models import add_plan, add_train
from vr1kit.commands.runs import add_rerun, add_status, add_verify

DESCRIPTION = """\
Vision-R1, reproduced from notebooks: vision-guided reinforcement learning for
object localization in vision-language models."""

EXAMPLES = """\
examples:
  vr1kit reproduce                          the whole study at the quickest profile, into runs/tiny
  vr1kit reproduce --run mine --only 04     one notebook, reusing what runs/mine has
  vr1kit status tiny                        what is done, what is stale, and why
  vr1kit profiles                           which profiles there are and what they need
  vr1kit score answers.jsonl --annotations coco.json    the rewards of your own model's answers
  vr1kit plan --profile qwen2.5-vl-7b       what a real model needs; then train, evaluate
  vr1kit curate coco --split val --out mix  any detection dataset as curated instructions
  vr1kit doctor coco.json --answers answers.jsonl       which coordinates are these, and what else is wrong
  vr1kit evaluate --model mixed --data coco --out runs/before    AP of any model on any detection set
  vr1kit compare runs/before runs/after     differences with intervals, and the pictures that changed

`vr1kit SUBCOMMAND --help` says more about each."""


def add_reproduce(subcommands: Any) -> None:
    summary = "run the five notebooks as a pipeline and build the report"
    parser = add_subcommand(subcommands, "reproduce", run_reproduce, summary, """\
examples:
  vr1kit reproduce                                  everything, profile tiny, into runs/tiny
  vr1kit reproduce --run second --profile tiny      the same into runs/second
  vr1kit reproduce --only 03                        the third notebook only
  vr1kit reproduce --force                          run notebooks although they are done
  vr1kit reproduce -p seeds 3                       set a parameter of the notebooks

What is done and unchanged is skipped. After Ctrl-C, a failure or a power cut, the same
command goes on where it stopped; a training resumes from its last checkpoint.""")  # fmt: skip
    parser.add_argument("--run", default="tiny", metavar="NAME", help="folder under runs/ for the results (tiny)")
    parser.add_argument("--profile", default="tiny", metavar="NAME", help="see `vr1kit profiles` (tiny)")
    parser.add_argument("--only", metavar="NOTEBOOK", help="one notebook: 03, or its whole name")
    parser.add_argument(
        "--force", action="store_true",
        help="run notebooks although done; finished trainings are still reused, unless you delete their folder",
    )  # fmt: skip
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter of the notebooks, VALUE as JSON or plain text; repeatable",
    )  # fmt: skip


def run_reproduce(arguments: argparse.Namespace) -> int:
    from vr1kit.runs import check_name

    check_name(arguments.run)  # before the seconds that importing papermill takes
    parameters = {name: parse_value(text) for name, text in arguments.parameter}
    for name in ("run", "profile"):
        if name in parameters:
            raise ValueError(f"set '{name}' by --{name}, not by -p {name}")

    from vr1kit.reproduce import reproduce

    return reproduce(arguments.run, arguments.profile, arguments.only, arguments.force, parameters)


def add_profiles(subcommands: Any) -> None:
    add_subcommand(subcommands, "profiles", run_profiles, "list the profiles and what each needs", """\
example:
  vr1kit profiles""")  # fmt: skip


def run_profiles(arguments: argparse.Namespace) -> int:
    from vr1kit.profiles import PROFILES, get_profile
    from vr1kit.scale.model_profiles import MODEL_PROFILES

    for name in PROFILES:
        profile = get_profile(name)
        print(f"{name:<19} about {sum(profile.minutes.values()):3.0f} min   {profile.purpose}")
    print("real models (vr1kit plan, vr1kit train):")
    for profile in MODEL_PROFILES.values():
        print(f"{profile.name:<19} about {profile.hours:4.3g} h    {profile.purpose}")
    return 0


DEFAULT_PARTS = ("policies", "gallery", "ablations", "weak")  # of a study
PARTS = (*DEFAULT_PARTS, "annotators", "sweeps")


def add_study(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "study", run_study, "train and test every policy of a profile, without notebooks", """\
examples:
  vr1kit study --run full --profile published            # every seed, both base policies
  vr1kit study --run full --profile published --part sweeps
  vr1kit study --run mine --profile tiny --only mixed-seed0-vision_r1     one policy: trained and tested

The same command continues an interrupted study; done jobs are found, not repeated.""")  # fmt: skip
    parser.add_argument("--run", default="full", metavar="NAME", help="folder under runs/ (default: full)")
    parser.add_argument("--profile", default="published", help="see `vr1kit profiles` (default: published)")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help=f"only this part; may be repeated (default: {', '.join(DEFAULT_PARTS)})"
    )
    parser.add_argument("--only", metavar="POLICY", help="only this policy, without the tables, e.g. mixed-seed0-sft")
    parser.add_argument("--as-is", action="store_true", help="what is finished stays, though settings or code changed since")


def run_study(arguments: argparse.Namespace) -> int:
    from vr1kit.jobs import list_ablations, list_annotated, list_jobs, list_long_ablations, list_sweeps, list_weak
    from vr1kit.profiles import get_profile
    from vr1kit.reporting.summary import write_results
    from vr1kit.reporting.trials import write_ablations, write_annotated, write_long_ablations, write_sweeps, write_weak
    from vr1kit.runs import AS_IS, open_run
    from vr1kit.study import collect_gallery
    from vr1kit.workers import run_jobs

    run, name = arguments.run, arguments.profile
    if arguments.as_is:
        os.environ[AS_IS] = "1"  # for the workers, too
    profile, parts = get_profile(name), arguments.part or DEFAULT_PARTS
    only = [job for job in list_jobs(name) if job.name == arguments.only]
    if arguments.only and not only:
        raise ValueError(f"no policy '{arguments.only}'; there are: {', '.join(job.name for job in list_jobs(name))}")
    with open_run(run).locked():
        if only:
            run_jobs(run, name, only)
            return 0
        if "policies" in parts:
            run_jobs(run, name, list_jobs(name))
            write_results(run, name)
        if "gallery" in parts:
            for base in profile.base_policies:
                collect_gallery(run, name, base, profile.seeds[0])
        if "ablations" in parts:
            run_jobs(run, name, list_ablations(name), split="val")
            write_ablations(run, name)
            if profile.long_ablations:
                run_jobs(run, name, list_long_ablations(name))
                write_long_ablations(run, name)
        if "weak" in parts and profile.weak_seeds:
            run_jobs(run, name, list_weak(name), split="val")
            write_weak(run, name)
        if "annotators" in parts:
            run_jobs(run, name, list_annotated(name))
            write_annotated(run, name)
        if "sweeps" in parts:
            run_jobs(run, name, list_sweeps(name), split="val")
            write_sweeps(run, name)
    return 0


def add_publish(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "publish", run_publish, "copy a finished run's small files to runs/published", """\
example:
  vr1kit publish full""")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="a finished run under runs/")


def run_publish(arguments: argparse.Namespace) -> int:
    from vr1kit.publish import publish

    print(f"published in {publish(arguments.run).path}")
    return 0


def add_pretrain(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "pretrain", run_pretrain, "make the two base policies again, from drawn pictures alone", """\
example:
  vr1kit pretrain --out runs/base          # about 90 minutes on two cores; a cut-off stage goes on
  vr1kit pretrain --out runs/base-gpu --size tiny-gpu --device cuda --processes 1 --batch 64        # 50 M parameters, on a GPU""")  # fmt: skip
    parser.add_argument("--out", default="runs/base", metavar="FOLDER", help="where stages, log and policies go")
    for field, (value, what) in PRETRAIN_SIZES.items():
        parser.add_argument(
            "--" + field.replace("_", "-"), type=int, default=value, metavar="N", help=f"{what} (default: {value})"
        )
    parser.add_argument("--size", default="tiny", choices=("tiny", "tiny-gpu"), help="2 or 50 million parameters (default: tiny)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda or another of torch's (default: cpu)")


def add_readme(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "readme", run_readme, "write the main table of a run into README.md", """\
example:
  vr1kit readme --run published""")  # fmt: skip
    parser.add_argument("--run", default="published", metavar="NAME", help="folder under runs/ (default: published)")


def run_readme(arguments: argparse.Namespace) -> int:
    from vr1kit.reporting.summary import write_readme

    print(f"wrote {write_readme(arguments.run)}")
    return 0


def add_refresh(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "refresh", run_refresh, "execute the committed notebooks in place, for nbval", """\
examples:
  vr1kit refresh
  vr1kit refresh 02_reward_ablations""")  # fmt: skip
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="stems; all five by default")


def run_refresh(arguments: argparse.Namespace) -> int:
    from vr1kit.refresh import refresh_notebooks

    for path in refresh_notebooks(*([tuple(arguments.notebooks)] if arguments.notebooks else [])):
        print(f"executed {path.name}")
    return 0


def add_score(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "score", run_score, "score your own model's answers against a COCO file", """\
examples:
  vr1kit score answers.jsonl --annotations instances_val2017.json
  vr1kit score answers.jsonl --annotations coco.json --coordinates norm1000 --out scores.jsonl
  vr1kit score answers.jsonl --annotations coco.json --stage advanced --variant strict

One line of answers.jsonl is one answer; file_name may stand for image_id:
  {"image_id": 3, "completion": "[{\\"bbox_2d\\": [10, 20, 40, 30], \\"label\\": \\"cat\\"}]"}
It may also have
  "phrase": "cat"                              the question was about this category only (grounding)
  "categories": ["cat", "dog"]                 ... or about these
  "input_width": 644, "input_height": 476      the picture as the model saw it, for model-input

Which coordinates? Qwen2.5-VL answers in model-input, Qwen2-VL and Qwen3-VL in norm1000 (0 to 1000
along each side). The wrong one scores near 0 with good boxes; a hint says so where it shows.

Crowd regions of the COCO file are no ground truth: a box on one counts as a wrong box.""")  # fmt: skip
    parser.add_argument("completions", metavar="COMPLETIONS", help="a JSONL file, one answer a line")
    parser.add_argument("--annotations", required=True, metavar="FILE", help="COCO instances JSON with the ground truth")
    parser.add_argument("--variant", default="paper", metavar="NAME", help="paper, box_and_label, released or strict (paper)")
    parser.add_argument("--stage", choices=("beginner", "advanced"), default="beginner", help="criteria (beginner)")
    spaces = ("model-input", "pixels", "norm1000")
    parser.add_argument("--coordinates", choices=spaces, default="pixels", help="what the answers' numbers are (pixels)")
    parser.add_argument("--out", metavar="FILE", help="write every part of every score there, as JSONL")


def run_score(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from vr1kit.scoring import describe, score_file

    files = Path(arguments.completions), Path(arguments.annotations)
    out = Path(arguments.out) if arguments.out else None
    result = score_file(*files, arguments.variant, arguments.stage, arguments.coordinates, out)
    print("\n".join(describe(result, out)))
    return 0


PRETRAIN_SIZES = {
    "pictures": (64_000, "pictures drawn"),
    "warm_up_steps": (400, "steps of the tower's warm-up"),
    "clean_steps": (5000, "steps on clean answers"),
    "mixed_steps": (600, "steps on answers of mixed quality"),
    "seed": (0, "seed"),
    "processes": (2, "processes of one thread each; 1 on a GPU"),
    "batch": (32, "pictures of each process in a step"),
}


def run_pretrain(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from vr1kit.toy.pretrain import make_base_policies

    chosen = {name: getattr(arguments, name) for name in (*PRETRAIN_SIZES, "size", "device")}
    make_base_policies(Path(arguments.out), **chosen)
    return 0


SUBCOMMANDS = (
    add_reproduce, add_status, add_verify, add_rerun, add_profiles, add_curate, add_leakage, add_doctor, add_score, add_study,
    add_publish, add_readme, add_refresh, add_pretrain, add_plan, add_train, add_evaluate, add_compare, add_export, add_tables,
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("vr1kit", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"vr1kit {__version__}")
    parser.set_defaults(parse=parser.parse_args)  # `rerun` reads recorded commands with it
    subcommands = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for add in SUBCOMMANDS:
        add(subcommands)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Exit codes: 0 good, 1 the work failed, 2 bad input, 130 Ctrl-C or SIGTERM."""
    arguments = build_parser().parse_args(words)
    arguments.words = list(sys.argv[1:] if words is None else words)  # for those that start themselves again
    code = _run(arguments)
    if "torch.distributed" in sys.modules:
        from vr1kit.scale.ranks import leave_group

        leave_group(failed=code not in (0, 130))
    return code


def _run(arguments: argparse.Namespace) -> int:
    from vr1kit.safekeeping.disks import is_full_disk
    from vr1kit.safekeeping.interruption import sigterm_as_ctrl_c

    try:
        with sigterm_as_ctrl_c():
            return arguments.run_subcommand(arguments)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on from here", 130)
    except BrokenPipeError:  # `vr1kit status tiny | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if arguments.debug:
            raise
        if isinstance(error, ValueError | OSError) and not is_full_disk(error):
            return _complain(_one_line(error), 2)
        from vr1kit.runs import runs_root
        from vr1kit.safekeeping.failures import explain

        go_on = "\nfinished steps are kept; the same command goes on from here" if hasattr(arguments, "run") else ""
        return _complain(explain(error, runs_root()) + go_on, 1)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _complain(message: str, code: int) -> int:
    print(f"vr1kit: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
