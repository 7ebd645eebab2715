"""The subcommands about data: `vr1kit curate`, `vr1kit leakage`, `vr1kit doctor`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vr1kit.commands.arguments import add_subcommand

LIMITS = {  # field of filters.Limits -> type, what it bounds
    "min_instances": (int, "fewest boxes in a picture (1)"),
    "max_instances": (int, "most boxes in a picture (30)"),
    "min_side_px": (float, "shortest side of a box in px (4)"),
    "max_ignored": (int, "most crowd or difficult regions (not looked at)"),
    "max_truncated": (float, "largest share of objects cut off by the edge (not looked at)"),
    "max_aspect": (float, "longest side of a box in units of its shortest (not looked at)"),
    "max_area": (float, "largest share of the picture that a box may cover (not looked at)"),
    "duplicate_iou": (float, "IoU from which two boxes of one label are duplicates (not looked at)"),
}


def add_curate(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "curate", run_curate, "turn detection datasets into curated instructions, with a card", """\
examples:
  vr1kit curate coco --split train2017 --out curated              all that passes the filters, in file order
  vr1kit curate coco voc=VOC2012 --split train --n 5000 --out mix    5,000 pictures, shuffled, half from each
  vr1kit curate coco --n 5000 --hard 0.5 --negatives 0.05 --balanced --out mix
  vr1kit curate coco odinw v3det refcoco visual_genome --recipe paper_49k --out mix
  vr1kit curate coco --exclude leaks.csv --on-error skip --out curated

A set is a folder, or NAME=FOLDER; its format is recognised. With --n or --recipe pictures are chosen and
shuffled by --seed; without, every picture that passes is kept. Beside the shards in OUT/data are README.md,
card.json, histograms.png and contact_sheet.png. Paths in the shards are relative to --root.""")  # fmt: skip
    parser.add_argument("sets", nargs="+", metavar="[NAME=]FOLDER", help="datasets in any known format")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where shards and card go")
    parser.add_argument("--split", metavar="NAME", help="which split, where a set has several")
    parser.add_argument("--images", metavar="FOLDER", help="the pictures, where they do not lie with the annotations")
    parser.add_argument(
        "--on-error",
        choices=("fail", "skip"),
        default="fail",
        help="stop at the first bad record, or leave it out and count it (fail)",
    )
    parser.add_argument("--task", choices=("detection", "grounding"), help="what is asked (detection; grounding for phrases)")
    parser.add_argument("--n", type=int, metavar="N", help="choose so many pictures, spread over the sets")
    parser.add_argument("--quotas", type=int, nargs="+", metavar="N", help="pictures of each set, N in all")
    parser.add_argument("--hard", type=float, metavar="SHARE", help="share of pictures with more than 10 boxes, with --n")
    parser.add_argument("--negatives", type=float, default=0.0, metavar="SHARE", help="share with nothing to find, with --n (0)")
    parser.add_argument("--balanced", action="store_true", help="pictures with rare labels first, with --n")
    parser.add_argument("--recipe", metavar="NAME", help="a named mix: paper_49k")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the recipe, above 0 to 1 (1)")
    parser.add_argument("--seed", type=int, default=0, help="of every choice (0)")
    parser.add_argument("--exclude", metavar="FILE", help="a report of `vr1kit leakage`: leave out the pictures it names")
    parser.add_argument(
        "--check-pictures", action="store_true", help="decode every picture, and compare its size with its annotation"
    )
    parser.add_argument("--root", metavar="FOLDER", help="paths are relative to it (the one folder, or what all have in common)")
    parser.add_argument(
        "--engine",
        choices=("serial", "datasets", "ray"),
        default="serial",
        help="who works, without --n: see vr1kit/curation/engines.py (serial)",
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="of the engine (1)")
    for field, (kind, what) in LIMITS.items():
        parser.add_argument("--" + field.replace("_", "-"), type=kind, metavar=kind.__name__.upper(), help=what)


def run_curate(arguments: argparse.Namespace) -> int:
    import os

    from vr1kit.curation.leakage import read_leaked
    from vr1kit.curation.recipes import RECIPES
    from vr1kit.curation.sets import Curation, curate_mix, curate_stream
    from vr1kit.data import Part
    from vr1kit.filters import Limits
    from vr1kit.formats.columns import Stream, stream_set
    from vr1kit.formats.images import check_pictures
    from vr1kit.formats.readers import open_stream

    folders = _name_folders(arguments.sets)
    limits = Limits(**{field: value for field in LIMITS if (value := getattr(arguments, field)) is not None})
    places = [str(arguments.images or folder) for folder in folders.values()]
    root = arguments.root or os.path.commonpath([os.path.normpath(place) for place in places])
    leaked = read_leaked(arguments.exclude) if arguments.exclude else set()
    chosen = arguments.n is not None or arguments.recipe
    for option in ("quotas", "hard", "balanced"):
        if getattr(arguments, option) and arguments.n is None:
            raise ValueError(f"--{option} is about choosing pictures; say how many with --n")

    def read(name: str, folder: Path) -> Stream:
        stream = open_stream(folder, arguments.split, arguments.on_error, arguments.images, name)
        return stream_set(check_pictures(stream.to_set(), arguments.on_error)) if arguments.check_pictures else stream

    if not chosen:
        if len(folders) > 1:
            raise ValueError("several sets are a mix; say how many pictures with --n, or name a --recipe")
        ((name, folder),) = folders.items()
        curation = Curation(limits, arguments.task, arguments.seed, arguments.negatives > 0)
        engine = {"engine": arguments.engine, "processes": arguments.processes}
        card = curate_stream(read(name, folder), arguments.out, curation, root, exclude=leaked, **engine)
    else:
        sets = {name: _leave_out(read(name, folder).to_set(), leaked, root) for name, folder in folders.items()}
        if arguments.recipe:
            if arguments.recipe not in RECIPES:
                raise ValueError(f"there is no recipe '{arguments.recipe}'; there are {', '.join(RECIPES)}")
            parts = RECIPES[arguments.recipe](arguments.scale)
        else:
            tasks = {arguments.task or ("grounding" if data.phrases else "detection") for data in sets.values()}
            if len(tasks) > 1:
                raise ValueError(
                    "sets of categories and sets of phrases are asked differently; curate them apart, or with --task grounding"
                )
            quotas = tuple(arguments.quotas or ())
            parts = (
                Part(
                    "mix", tuple(sets), tasks.pop(), arguments.n, arguments.hard, arguments.negatives, quotas, arguments.balanced
                ),
            )
        about = {"recipe": arguments.recipe} if arguments.recipe else {}
        card = curate_mix(sets, parts, arguments.out, arguments.seed, limits, root, about)
    print(f"wrote {card}")
    return 0


def _name_folders(words: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for word in words:
        name, _, folder = word.rpartition("=")
        name = name or Path(folder).resolve().name
        if name in folders:
            raise ValueError(f"two sets are called '{name}'; give them names: NAME={folder}")
        folders[name] = Path(folder)
    return folders


def _leave_out(data: Any, leaked: set[str], root: str) -> Any:
    """The set without pictures that a leakage report names."""
    from dataclasses import replace

    from vr1kit.formats.columns import strip_root
    from vr1kit.records import DataError

    kept = [r for r in data.records if strip_root(str(r.image_path), root) not in leaked] if leaked else data.records
    if not len(kept):
        raise DataError(f"{data.annotations}: all pictures are in the leakage report; give other pictures")
    counts = {**data.skipped, **({"leaked": len(data.records) - len(kept)} if len(kept) < len(data.records) else {})}
    return replace(data, records=tuple(kept), skipped=counts)


def add_leakage(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "leakage", run_leakage, "find pictures of evaluation sets in a training set", """\
examples:
  vr1kit leakage coco --split train2017 --against coco --against-split val2017 --out leaks.csv
  vr1kit leakage mix --against odinw/pothole odinw/Raccoon --out leaks.csv --processes 2
  vr1kit curate coco --exclude leaks.csv --out curated

Finds files that are the same, and pictures that look the same: scaled, compressed anew, slightly changed.
A match is a reason to look: OUT has both paths and how many of 512 bits differ.""")  # fmt: skip
    parser.add_argument("train", metavar="FOLDER", help="the training set")
    parser.add_argument("--against", nargs="+", required=True, metavar="FOLDER", help="evaluation sets")
    parser.add_argument("--split", metavar="NAME", help="of the training set")
    parser.add_argument("--against-split", metavar="NAME", help="of the evaluation sets")
    parser.add_argument("--out", required=True, metavar="FILE", help="the report, CSV")
    parser.add_argument(
        "--on-error", choices=("fail", "skip"), default="fail", help="what to do with bad records and pictures (fail)"
    )
    parser.add_argument("--root", metavar="FOLDER", help="paths of training pictures are relative to it (the training folder)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that hash pictures (1)")


def run_leakage(arguments: argparse.Namespace) -> int:
    from vr1kit.curation.leakage import Hashes, describe_matches, find_matches, hash_pictures, write_matches
    from vr1kit.formats.columns import strip_root
    from vr1kit.formats.readers import open_stream

    def hash_set(folder: str, split: str | None, root: str | None) -> Hashes:
        names = [
            n for batch in open_stream(folder, split, arguments.on_error).batches for n in batch.column("image_path").to_pylist()
        ]
        shown = [strip_root(name, root) for name in names]
        return hash_pictures(names, shown, arguments.on_error, arguments.processes)

    train = hash_set(arguments.train, arguments.split, arguments.root or arguments.train)
    evaluations = {folder: hash_set(folder, arguments.against_split, None) for folder in arguments.against}
    matches = find_matches(train, evaluations)
    write_matches(matches, arguments.out)
    print("\n".join([*describe_matches(matches, train, evaluations), f"wrote {arguments.out}"]))
    return 0


def add_doctor(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "doctor", run_doctor, "say what is wrong between a dataset and a model's answers", """\
examples:
  vr1kit doctor coco.json --answers answers.jsonl                     which space are the answers in?
  vr1kit doctor coco.json --answers answers.jsonl --coordinates norm1000
  vr1kit doctor coco.json --processor models/trained --eval-processor models/served
  vr1kit doctor coco.json --model mixed --pictures 16                 asks the model itself

DATASET is a COCO file or a dataset's folder; answers.jsonl is as for `vr1kit score`. Looks at the coordinate
space of the answers, pixel bounds of processors, labels, and lengths in tokens. Exit code 1: a problem is found.""")  # fmt: skip
    parser.add_argument("dataset", metavar="DATASET", help="a COCO file or a folder")
    parser.add_argument("--split", metavar="NAME", help="which split of the folder")
    parser.add_argument("--answers", metavar="FILE", help="JSONL, one answer a line")
    parser.add_argument("--model", metavar="MODEL", help="a base policy, a folder or a hub name: answers some pictures now")
    parser.add_argument("--pictures", type=int, default=16, metavar="N", help="that the model is asked about (16)")
    spaces = ("model-input", "pixels", "norm1000")
    parser.add_argument("--coordinates", choices=spaces, help="what you take the answers' numbers for (the model family's)")
    parser.add_argument("--processor", metavar="FOLDER", help="the model as trained: its preprocessor_config.json is read")
    parser.add_argument("--eval-processor", metavar="FOLDER", help="the model as evaluated or served")
    parser.add_argument(
        "--max-prompt", type=int, default=1024, metavar="N", help="tokens of picture and prompt (1024, released script)"
    )
    parser.add_argument("--max-completion", type=int, default=512, metavar="N", help="tokens of an answer (512, released script)")


def run_doctor(arguments: argparse.Namespace) -> int:
    from vr1kit.coordinates import CoordinateSpace
    from vr1kit.curation.doctor import check_bounds, check_labels, check_length, check_space, read_processor
    from vr1kit.data import read_coco
    from vr1kit.families import FAMILIES
    from vr1kit.formats.readers import open_dataset
    from vr1kit.scoring import read_answers

    path = Path(arguments.dataset)
    data = read_coco(path, on_error="skip") if path.is_file() else open_dataset(path, arguments.split, on_error="skip")
    processor, count_tokens, answers = None, None, []
    folder = arguments.processor
    if arguments.model:
        from vr1kit.models import POLICIES

        source = POLICIES / arguments.model if (POLICIES / arguments.model).is_dir() else Path(arguments.model)
        folder = folder or (str(source) if source.is_dir() else None)
        answers, count_tokens = _ask_model(arguments.model, data, arguments.pictures)
    if folder:
        processor = read_processor(folder)
    if arguments.answers:
        answers = list(read_answers(Path(arguments.answers), data, CoordinateSpace.PIXELS))
    expected = CoordinateSpace(arguments.coordinates.replace("-", "_")) if arguments.coordinates else None
    if expected is None and processor and processor.family:
        expected = FAMILIES[processor.family].answers
    findings = []
    if answers:
        findings += [check_space(answers, expected, processor), check_labels(answers, data.categories)]
    if processor and arguments.eval_processor:
        sizes = sorted({(record.width, record.height) for record in data.records})
        findings.append(check_bounds(processor, read_processor(arguments.eval_processor), sizes))
    if processor:
        findings.append(check_length(data, processor, arguments.max_prompt, arguments.max_completion, count_tokens))
    if not findings:
        raise ValueError("nothing to look at; give --answers, --model or --processor")
    print("\n".join(map(str, findings)))
    return int(any(finding.level == "problem" for finding in findings))


def _ask_model(name: str, data: Any, pictures: int) -> tuple[list, Callable[[str], int]]:
    """(the model's answers about the first pictures that have objects, how many tokens a text is)."""
    from vr1kit.data import ask
    from vr1kit.evaluate import answer_greedily
    from vr1kit.models import load_policy
    from vr1kit.scoring import Answer

    policy = load_policy(name)
    records = [record for record in data.records if record.labels][:pictures]
    examples = [ask(record, list(data.categories), record.labels[0] if data.phrases else None) for record in records]
    texts = answer_greedily(policy, [str(e.record.image_path) for e in examples], [e.prompt for e in examples])
    answers = [
        Answer(k, text, e.record.image_id, e.record.image_path.name, (e.record.width, e.record.height),
               policy.input_size(e.record.width, e.record.height), e.boxes_xyxy_px, e.labels)
        for k, (e, text) in enumerate(zip(examples, texts, strict=True), 1)
    ]  # fmt: skip
    return answers, lambda text: len(policy.tokenizer(text)["input_ids"])
