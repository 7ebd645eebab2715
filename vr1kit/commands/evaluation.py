"""The subcommands `evaluate`, `compare`, `export` and `tables`; see the head of `vr1kit.cli`."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from vr1kit.commands.arguments import add_subcommand

SETTINGS = (  # fields of evaluations.Settings, with the defaults that tests/test_evaluations.py compares
    ("protocol", str, "present or all (all)"),
    ("score", str, "constant, token_prob or vote (constant)"),
    ("pool", str, "of token_prob: min, mean or product (mean)"),
    ("samples", int, "answers drawn for a vote (8)"),
    ("seed", int, "of these draws (0)"),
    ("max_new_tokens", int, "longest answer (512)"),
    ("dtype", str, "float32, bfloat16 or float16 (float32)"),
    ("revision", str, "commit or tag of a hub model (None)"),
    ("family", str, "griffon, for models that answer in plain text; else by the model's class (None)"),
    ("attention", str, "sdpa, eager or flash_attention_2; else transformers' own choice (None)"),
    ("limit", int, "only the first N pictures (None)"),
)


def add_evaluate(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "evaluate", run_evaluate, "ask a policy about a dataset: AP, or accuracy, kept to be compared", """\
examples:
  vr1kit evaluate --model mixed --data my_coco --split val2017 --out runs/before
  vr1kit evaluate --model Qwen/Qwen2.5-VL-7B-Instruct --data ODINW/pothole --split test \\
      --protocol present --score token_prob --pool min --dtype bfloat16 --out runs/pothole
  vr1kit evaluate --model PATH --server http://localhost:8000/v1 --data ODINW/pothole --out runs/served --batch 64
  vr1kit evaluate --model PATH --data ODINW --suite odinw13 --protocol present --out runs/odinw13
  vr1kit evaluate --model mixed --data refcoco --split testA --out runs/refcoco_testA
  vr1kit evaluate --model mixed --data "ChartQA Dataset" --split test --out runs/chartqa
  vr1kit evaluate --model mixed --data my_questions.jsonl --out runs/mine

What is asked follows from the data: a detection set (any format that vr1kit reads), expressions
(RefCOCO: accuracy at IoU 0.5), or questions: GQA, ChartQA, AI2D and SEED-Bench as published, as
lmms-lab's parquet files or as VLMEvalKit's .tsv, or a JSONL file, one {"image", "question",
"answer"} a line, perhaps with "benchmark": gqa, chartqa, ai2d or seed, and "options".

  present    one question per picture and category that is there: Qwen's and the paper's for ODINW
  all        one question per picture with all categories of the set: GLIP's and mmdetection's

With --suite each set of ODINW has a folder in RUN, and their mean is said; --split glip takes the
splits that GLIP tests on. The same command goes on where it was interrupted.""")  # fmt: skip
    parser.add_argument("--model", required=True, metavar="PATH", help="mixed, converged, a folder, or a hub name")
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="a dataset's folder, a COCO .json, a .jsonl or .tsv of questions"
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the result, such as runs/before")
    parser.add_argument("--split", metavar="NAME", help="which split, where there are several")
    parser.add_argument("--suite", metavar="NAME", help="odinw13 or odinw35: all these sets below the folder (valid)")
    parser.add_argument("--images", metavar="FOLDER", help="the pictures, where they do not lie with the annotations")
    parser.add_argument("--format", metavar="NAME", help="the data's format, where a folder is several")
    for name, kind, what in SETTINGS:
        metavar = "N" if kind is int else "NAME"
        words = {"type": kind, "metavar": metavar, "help": what, "default": argparse.SUPPRESS}
        parser.add_argument("--" + name.replace("_", "-"), **words)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (cuda if there is one)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="questions at once and process (16)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes on this machine, a GPU each (1)")
    parser.add_argument("--server", metavar="URL", help="ask the model there (`vllm serve`, SGLang) instead of loading it")


def run_evaluate(arguments: argparse.Namespace) -> int:
    if arguments.suite:
        return _run_suite(arguments)
    from tqdm import tqdm

    from vr1kit.evaluations import Settings, answer_share, describe_evaluation, evaluate
    from vr1kit.scale.launcher import launch

    a = arguments
    settings = Settings(**{name: getattr(a, name) for name, *_ in SETTINGS if hasattr(a, name)})
    where = {"split": a.split, "images": a.images, "format": a.format, "batch": a.batch, "device": a.device}
    if a.server and (a.processes > 1 or a.device):
        raise ValueError("a server shares out the work itself: leave out --processes and --device, and raise --batch")
    bar = lambda **k: tqdm(desc="asking", mininterval=1, **k)  # noqa: E731
    if "RANK" in os.environ:  # one of those that are launched below
        answer_share(
            int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), a.model, a.data, a.out, settings, **where, progress=bar
        )
        return 0
    log = Path(a.out) / "processes.log"
    others = (lambda: launch(a.words, a.processes, log)) if a.processes > 1 else None
    step = evaluate(a.model, a.data, a.out, settings, **where, progress=bar, launch=others, server=a.server)
    print("\n".join([*describe_evaluation(step), f"in {step.path}"]))
    return 0


def _run_suite(arguments: argparse.Namespace) -> int:
    """Every set as if it had been asked for alone, then their mean."""
    from vr1kit.formats.odinw import find_suite
    from vr1kit.reporting.comparison import average_sets, read_sets

    a, places = arguments, find_suite(arguments.data, arguments.suite, arguments.split or "valid")
    for name, (folder, split) in places.items():
        own = {"suite": "", "data": str(folder), "split": split, "out": str(Path(a.out) / name)}
        words = [*a.words, *(word for key, value in own.items() for word in (f"--{key}", value))]  # the last one counts
        run_evaluate(argparse.Namespace(**{**vars(a), **own, "words": words}))
    row = average_sets({name: step for name, step in read_sets(a.out).items() if name in places})
    print(
        f"{row['metric']}, protocol {row['protocol']}, score {row['score']}: AP {row['value']:.1f}  [{row['low']:.1f}, {row['high']:.1f}]"
    )
    return 0


def add_compare(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "compare", run_compare, "what is different between two evaluations of one set, and how sure that is", """\
examples:
  vr1kit compare runs/before runs/after
  vr1kit compare runs/odinw_before runs/odinw_after     folders of folders: set by set, and their mean

Prints differences with paired 95 % intervals and errors before and after; writes a page with the
pictures whose answers changed most (of several sets, a page that leads to theirs), and opens it
where there is a screen. Results of different data or protocols are refused.""")  # fmt: skip
    parser.add_argument("before", metavar="RUN", help="a folder that `vr1kit evaluate` made")
    parser.add_argument("after", metavar="RUN", help="another")
    parser.add_argument("--out", metavar="FILE", help="the page (AFTER/compared_with_BEFORE.html)")
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (1000)")
    parser.add_argument("--no-open", action="store_true", help="do not open the page")


def run_compare(arguments: argparse.Namespace) -> int:
    from vr1kit.evaluations import read_evaluation
    from vr1kit.reporting.comparison import (
        compare,
        compare_sets,
        describe_comparison,
        describe_rows,
        read_sets,
        write_comparison,
        write_set_comparison,
    )

    sets = read_sets(arguments.before), read_sets(arguments.after)
    path = Path(arguments.out or Path(arguments.after) / f"compared_with_{Path(arguments.before).resolve().name}.html")
    if all(sets):
        print(f"{arguments.before} -> {arguments.after}, AP of {len(sets[0])} sets, paired 95 % intervals")
        rows = compare_sets(*sets, arguments.resamples)
        print("\n".join(describe_rows(rows)))
        write_set_comparison(*sets, rows, path, arguments.resamples)
        print(f"set by set, with pictures, in {path}")
    else:
        before, after = read_evaluation(arguments.before), read_evaluation(arguments.after)
        compared = compare(before, after, arguments.resamples)
        write_comparison(compared, path)
        print("\n".join([*describe_comparison(compared), f"pictures in {path}"]))
    if sys.stdout.isatty() and not arguments.no_open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return 0


def add_export(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "export", run_export, "answers to questions, for lmms-eval or VLMEvalKit to check", """\
examples:
  vr1kit evaluate --model mixed --data lmms-lab/ChartQA --out runs/chartqa
  vr1kit export runs/chartqa --to lmms-eval --task chartqa --out logs
  python -m lmms_eval --model from_log --model_args logs=logs --tasks chartqa

  vr1kit evaluate --model PATH --data ChartQA_TEST.tsv --out runs/chartqa
  vr1kit export runs/chartqa --to vlmevalkit --task ChartQA_TEST --model Qwen2.5-VL-7B-Instruct --out outputs
  PRED_FORMAT=tsv python run.py --data ChartQA_TEST --model Qwen2.5-VL-7B-Instruct --work-dir outputs --reuse""")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="a folder that `vr1kit evaluate` made of the tool's own file")
    parser.add_argument("--to", required=True, metavar="TOOL", help="lmms-eval or vlmevalkit")
    parser.add_argument("--task", required=True, metavar="NAME", help="the tool's name for the set")
    parser.add_argument("--model", metavar="NAME", help="for vlmevalkit, one that it knows (the run's name)")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to")


def run_export(arguments: argparse.Namespace) -> int:
    from vr1kit.evaluations import read_evaluation
    from vr1kit.export import export_questions

    a, step = arguments, read_evaluation(arguments.run)
    print(export_questions(step, a.to, a.task, a.model or step.run.name, a.out))
    return 0


def add_tables(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "tables", run_tables, "rebuild every table and figure of the paper beside ours, without torch", """\
examples:
  vr1kit tables                                          from runs/published into paper_figures/
  vr1kit tables --run mine --out built
  vr1kit tables --pair runs/before runs/after            also calibration and errors of two evaluations

Tables 1 to 6 and 9 to 11 with columns paper, ours and interval, as Markdown, LaTeX and CSV; figures as
PDF and PNG. Cells that were not run say so; each file names the run and the commit it came from.""")  # fmt: skip
    parser.add_argument("--run", default="published", metavar="NAME", help="folder under runs/ (published)")
    parser.add_argument("--out", metavar="FOLDER", help="where to (paper_figures/, or a folder below it for other runs)")
    parser.add_argument("--pair", nargs=2, metavar=("BEFORE", "AFTER"), help="two folders that `vr1kit evaluate` made")


def run_tables(arguments: argparse.Namespace) -> int:
    from vr1kit.evaluations import read_evaluation
    from vr1kit.reporting.rebuild import rebuild
    from vr1kit.reporting.summary import figures_folder

    folder = Path(arguments.out) if arguments.out else figures_folder(arguments.run)
    files, left_out = rebuild(arguments.run, folder, [read_evaluation(path) for path in arguments.pair or ()])
    print(f"wrote {len(files)} files to {folder}")
    for name in left_out:
        print(f"  left out {name}: the run has nothing for it")
    return 0
