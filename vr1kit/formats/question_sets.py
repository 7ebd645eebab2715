"""Published sets of general questions, read as they were published: GQA, ChartQA, AI2D and SEED-Bench.

    found = open_question_set("gqa", "testdev_balanced")       # None where the folder is something else
    found.entries[0].row      # {image, question, answer, options, benchmark, kind, id}: a line of a file of questions

What is recognised; questions, options and answers stay as they are written there.

    GQA       SPLIT_questions.json (testdev_balanced, val_all, ...): {id: {question, imageId, answer, types, ...}}; images/ID.jpg
    ChartQA   test/test_human.json and test/test_augmented.json: [{imgname, query, label}]; test/png/NAME
    AI2D      questions/NAME.json: {imageName, questions: {question: {answerTexts, correctAnswer, abcLabel, questionId}}};
              images/NAME; the split test is that of ai2d_test_ids.csv
    SEED      SEED-Bench.json: {questions: [{question, choice_a ... choice_d, answer, data_id, ...}]}; SEED-Bench-image/DATA_ID
    the hub   parquet files of lmms-lab/GQA, ChartQA, ai2d and SEED-Bench, as lmms-eval reads them: `id` is its doc_id; also
              HuggingFaceM4/ChartQA
    .tsv      VLMEvalKit's ChartQA_TEST, AI2D_TEST, SEEDBench_IMG, GQA_TestDev_Balanced: `id` is its index

Left out, and counted in `left_out`: SEED's questions about videos, and those of AI2D that name objects by letters which have to be
drawn into the picture first, unless abc_images/ has such pictures. Pictures that are inside a file are unpacked once into
`pictures` beside it, or into the folder that the user names. The answers of GQA's test splits are not published.
"""

from __future__ import annotations

import base64
import binascii
import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vr1kit.formats.folders import PictureFolder, check_inside, choose_split, find_any, read_json
from vr1kit.formats.hub_sets import find_hub_files, list_tables, read_batches, read_columns
from vr1kit.formats.images import unpack_image
from vr1kit.formats.phrase_sets import open_folders
from vr1kit.records import BadRecord, DataError, call, get

LETTERS = "ABCD"  # SEED-Bench, VLMEvalKit
VIDEO_TYPES = range(10, 13)  # SEED-Bench: action recognition, action prediction, procedure understanding
GQA_FILE = re.compile(r"((?:train|val|testdev|test|challenge|submission)_(?:balanced|all))_questions\.json")
GQA_FOLDERS = (".", "questions", "questions1.2", "data", "data/questions1.2")
CHARTQA_FOLDERS = (".", "ChartQA Dataset")  # the latter as the published archive unpacks
TSV_NAMES = (("chartqa", "chartqa"), ("ai2d", "ai2d"), ("seedbench", "seed"), ("gqa", "gqa"))  # VLMEvalKit's -> ours


@dataclass(frozen=True)
class Entry:
    """One question: what a message calls it, its picture, and it as a line of a file of questions."""

    which: str
    image_path: Path
    row: dict[str, Any]


@dataclass
class QuestionSet:
    """A published set, or a split of it."""

    name: str
    file: Path
    entries: list[Entry] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)  # reason -> questions

    def add(self, which: str, path: Path, image: str, question: str, answer: Any, kind: str, number: Any, **more: Any) -> None:
        row = {"image": image, "question": question, "answer": answer, "benchmark": self.name, "kind": kind, "id": number}
        self.entries.append(Entry(which, path, {**row, **more}))


@dataclass(frozen=True)
class _Kind:
    name: str
    find: Callable[[Path], dict[str, list[Path]]]  # split -> files; empty for another format
    read: Callable[[Path, str, list[Path], str | os.PathLike | None], QuestionSet]


def open_question_set(
    data: str | os.PathLike, split: str | None = None, images: str | os.PathLike | None = None
) -> QuestionSet | None:
    """A folder, or a .tsv of VLMEvalKit; None for what is no known set of questions. `images`: the folder of its pictures.

    Raises DataError: no such split, an entry that is not as published, an absent picture.
    """
    path = Path(data)
    if path.suffix == ".tsv":
        return _read_tsv(path, images)
    for kind in KINDS:
        if path.is_dir() and (found := kind.find(path)):
            split = choose_split(path, found, split)
            out = kind.read(path, split, [check_inside(file, path) for file in found[split]], images)
            if not out.entries:
                raise DataError(f"{out.file}: holds no question that can be asked; left out are {dict(out.left_out) or 'none'}")
            return out
    return None


def _each(out: QuestionSet, entries: Iterator[tuple[str, Any]], add: Callable[[str, Any], None]) -> None:
    """`add` for each entry; what it raises gets the file's name and the entry's."""
    for which, entry in entries:
        try:
            add(which, entry)
        except BadRecord as error:
            raise error.at(out.file, which) from None


# --- GQA -----------------------------------------------------------------------------------------------------------------
def _find_gqa(folder: Path) -> dict[str, list[Path]]:
    files = [path for place in GQA_FOLDERS if (folder / place).is_dir() for path in sorted((folder / place).iterdir())]
    return {match[1]: [path] for path in files if (match := GQA_FILE.fullmatch(path.name))}


def _read_gqa(folder: Path, split: str, files: list[Path], images: Any) -> QuestionSet:
    out, folders = QuestionSet("gqa", files[0]), open_folders(folder, ("images", "data/images", "allImages/images"), images)
    content = read_json(files[0], "GQA's questions")
    if not isinstance(content, dict):
        raise DataError(f"{files[0]}: not an object of questions by their ids; give GQA's own file")

    def add(which: str, pair: tuple[str, Any]) -> None:
        number, entry = pair
        image = get(entry, "imageId", str)
        kind = get(get(entry, "types", dict), "structural", str) if "types" in entry else "all"
        path = _find_picture(folders, [f"{image}.jpg"], folder)
        out.add(which, path, image, get(entry, "question", str), get(entry, "answer", str), kind, number)

    _each(out, ((f"question '{number}'", (number, entry)) for number, entry in content.items()), add)
    return out


# --- ChartQA -------------------------------------------------------------------------------------------------------------
def _find_chartqa(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for place in CHARTQA_FOLDERS:
        for split in ("train", "val", "test"):
            names = (f"{split}_human.json", f"{split}_augmented.json")
            if files := [path for name in names if (path := folder / place / split / name).is_file()]:
                found[split] = files
    return found


def _read_chartqa(folder: Path, split: str, files: list[Path], images: Any) -> QuestionSet:
    out = QuestionSet("chartqa", files[0].parent)
    for file in files:
        out.file, kind = file, file.stem.removeprefix(f"{split}_")
        folders = open_folders(file.parent, ("png",), images)

        def add(which: str, entry: Any, kind: str = kind, folders: Sequence[PictureFolder] = folders) -> None:
            image = get(entry, "imgname", str)
            path = _find_picture(folders, [image], folder)
            number = f"{kind} {which.rsplit(' ', 1)[1]}"  # it has no ids
            out.add(which, path, image, get(entry, "query", str), get(entry, "label", str), kind, number)

        _each(out, ((f"question number {k}", e) for k, e in enumerate(_read_list(file, "ChartQA's questions"), 1)), add)
    return out


# --- AI2D ----------------------------------------------------------------------------------------------------------------
def _find_ai2d(folder: Path) -> dict[str, list[Path]]:
    if not ((folder / "questions").is_dir() and (folder / "images").is_dir()):
        return {}
    files = sorted((folder / "questions").glob("*.json"), key=lambda path: (len(path.name), path.name))  # 2 before 10
    ids = folder / "ai2d_test_ids.csv"
    if not files or not ids.is_file():
        return {"all": files} if files else {}
    test = set(check_inside(ids, folder).read_text(encoding="utf-8").split())
    parts = {
        "test": [p for p in files if p.name.split(".")[0] in test],
        "train": [p for p in files if p.name.split(".")[0] not in test],
    }
    return {split: found for split, found in parts.items() if found}


def _read_ai2d(folder: Path, split: str, files: list[Path], images: Any) -> QuestionSet:
    out, folders = QuestionSet("ai2d", folder / "questions"), open_folders(folder, ("images",), images)
    lettered = open_folders(folder, ("abc_images",), None)
    for file in files:
        out.file, content = file, read_json(file, "AI2D's questions about a picture")

        def add(which: str, pair: tuple[str, Any], content: Any = content) -> None:
            question, entry = pair
            image, letters = get(content, "imageName", str), entry.get("abcLabel") if isinstance(entry, dict) else None
            if letters and not lettered:
                out.left_out["letters_not_drawn"] += 1
                return
            path = _find_picture(lettered if letters else folders, [image], folder)
            options, answer = get(entry, "answerTexts", list), _to_letter(get(entry, "correctAnswer", int), entry["answerTexts"])
            kind = "letters in the picture" if letters else "words"
            out.add(which, path, image, question, answer, kind, get(entry, "questionId", str), options=options)

        try:
            asked = get(content, "questions", dict)
        except BadRecord as error:
            raise error.at(file, "the file") from None
        _each(out, ((call("question", e, k, "questionId"), (q, e)) for k, (q, e) in enumerate(asked.items(), 1)), add)
    out.file = folder / "questions"
    return out


def _to_letter(place: int, options: Sequence[Any]) -> str:
    if not 0 <= place < min(len(options), 26):
        raise BadRecord("malformed", f"has the answer number {place} of {len(options)} options; counted from 0")
    return chr(ord("A") + place)


# --- SEED-Bench ----------------------------------------------------------------------------------------------------------
def _find_seed(folder: Path) -> dict[str, list[Path]]:
    return {"image": [folder / "SEED-Bench.json"]} if (folder / "SEED-Bench.json").is_file() else {}


def _read_seed(folder: Path, split: str, files: list[Path], images: Any) -> QuestionSet:
    out, folders = QuestionSet("seed", files[0]), open_folders(folder, ("SEED-Bench-image", "images"), images)
    content = read_json(files[0], "SEED-Bench.json")
    try:
        asked, types = get(content, "questions", list), get(content, "question_type", dict)
    except BadRecord as error:
        raise error.at(files[0], "the file") from None
    kinds = {number: name for name, number in types.items()}

    def add(which: str, entry: Any) -> None:
        if get(entry, "question_type_id", int) in VIDEO_TYPES or entry.get("data_type") == "video":
            out.left_out["video"] += 1
            return
        image = get(entry, "data_id", str)
        path = _find_picture(folders, [image], folder)  # its files have no suffix
        _add_seed(
            out, which, path, image, entry, str(kinds.get(entry["question_type_id"], "all")), get(entry, "question_id", str)
        )

    _each(out, ((call("question", e, k, "question_id"), e) for k, e in enumerate(asked, 1)), add)
    return out


def _add_seed(out: QuestionSet, which: str, path: Path, image: str, entry: Any, kind: str, number: Any) -> None:
    options = [get(entry, f"choice_{letter.lower()}", str) for letter in LETTERS]
    out.add(which, path, image, get(entry, "question", str), get(entry, "answer", str), kind, number, options=options)


# --- the hub -------------------------------------------------------------------------------------------------------------
# Columns that tell the sets apart; the first that fits.
HUB = (
    ("seed", {"question", "answer", "image", "data_type", *(f"choice_{letter.lower()}" for letter in LETTERS)}),
    ("ai2d", {"question", "options", "answer", "image"}),
    ("gqa", {"question", "answer", "imageId"}),
    ("chartqa", {"question", "answer", "type", "image"}),
    ("chartqa", {"query", "label", "human_or_machine", "image"}),
)


def _find_hub(folder: Path) -> dict[str, list[Path]]:
    found = {}
    for split, files in find_hub_files(folder).items():
        tables = list_tables(files, folder)
        if tables and any(needed <= set(read_columns(tables[0])) for _, needed in HUB):
            found[split] = tables
    return found


def _read_hub(folder: Path, split: str, files: list[Path], images: Any) -> QuestionSet:
    columns = set(read_columns(files[0]))
    name, needed = next((name, needed) for name, needed in HUB if needed <= columns)
    out, unpacked = QuestionSet(name, files[0]), Path(images) if images is not None else folder / "pictures"
    pictures = _unpack_gqa(files[0], unpacked) if name == "gqa" else {}
    number = 0

    def add(which: str, row: dict) -> None:
        if name == "gqa":
            image = get(row, "imageId", str)
            if image not in pictures:
                raise BadRecord("absent", f"names the picture {image!r}, which SPLIT_images beside it does not have; fetch both")
            out.add(which, pictures[image], image, get(row, "question", str), get(row, "answer", str), "all", number)
            return
        cells = row["image"] if isinstance(row["image"], list) else [row["image"]]
        if row.get("data_type") == "video" or len(cells) != 1:
            out.left_out["video"] += 1
            return
        path = _unpack(cells[0], unpacked)
        if name == "seed":
            _add_seed(out, which, path, path.name, row, f"type {row.get('question_type_id')}", number)
        elif name == "ai2d":
            options, place = get(row, "options", list), str(get(row, "answer", (str, int)))
            answer = _to_letter(int(place) if place.isdigit() else -1, options)
            out.add(which, path, path.name, get(row, "question", str), answer, "all", number, options=options)
        elif "query" in needed:
            kind = {0: "human", 1: "augmented"}.get(row["human_or_machine"], str(row["human_or_machine"]))
            out.add(which, path, path.name, get(row, "query", str), row["label"], kind, number)
        else:
            out.add(which, path, path.name, get(row, "question", str), get(row, "answer", str), get(row, "type", str), number)

    for file in files:
        out.file = file
        for rows in read_batches(file, needed | {"question_type_id"}):
            for row in rows:
                _each(out, iter([(f"row {number + 1}", row)]), add)
                number += 1  # rows are counted over all files of the split, as lmms-eval's doc_id
    return out


def _unpack(cell: Any, folder: Path) -> Path:
    """The picture in a cell: its bytes, or `datasets`' {bytes, path}."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise BadRecord("malformed", "has no picture inside; fetch the parquet files with their pictures")
    return unpack_image(content, folder)[0]


def _unpack_gqa(file: Path, folder: Path) -> dict[str, Path]:
    """lmms-lab/GQA has pictures of their own: testdev_balanced_images beside testdev_balanced_instructions."""
    place = file.parent.with_name(file.parent.name.removesuffix("_instructions") + "_images")
    pictures: dict[str, Path] = {}
    for table in sorted(place.glob("*.parquet")) if place != file.parent else []:
        for rows in read_batches(table, {"id", "image"}):
            pictures |= {row["id"]: _unpack(row["image"], folder) for row in rows}
    if not pictures:
        raise DataError(f"{file}: its pictures are looked for in {place}, and there are none; fetch that folder, too")
    return pictures


# --- VLMEvalKit ----------------------------------------------------------------------------------------------------------
def _read_tsv(path: Path, images: Any) -> QuestionSet:
    """Columns index, image (base64, or the index of the row that has it), question, A ... D, answer, perhaps category, split."""
    name = next((ours for theirs, ours in TSV_NAMES if path.stem.lower().startswith(theirs)), None)
    if name is None:
        known = "ChartQA_TEST, AI2D_TEST, SEEDBench_IMG, GQA_TestDev_Balanced"
        raise DataError(f"{path}: which set it is follows from VLMEvalKit's name for it, and this is none of {known}; rename it")
    out, unpacked = QuestionSet(name, path), Path(images) if images is not None else path.parent / f"{path.stem}_pictures"
    pictures: dict[str, Path] = {}

    def add(which: str, row: dict) -> None:
        index, image = get(row, "index", str), get(row, "image", str)
        if len(image) > 64:  # VLMEvalKit's own rule
            try:
                pictures[index] = unpack_image(base64.b64decode(image, validate=True), unpacked)[0]
            except binascii.Error:
                raise BadRecord("unreadable", "has an image that is not base64; fetch the file again") from None
            image = index
        if image not in pictures:
            raise BadRecord("absent", f"has the picture of row {image!r}, which is not before it; fetch the file again")
        options = [row[letter] for letter in LETTERS if row.get(letter)]
        kind = row.get("category") or row.get("split") or "all"
        answer = get(row, "answer", str)
        more = {"options": options} if options else {}
        out.add(which, pictures[image], pictures[image].name, get(row, "question", str), answer, kind, int(index), **more)

    csv.field_size_limit(2**31 - 1)  # a picture is one field
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            _each(out, ((f"row {k}", row) for k, row in enumerate(rows, 1)), add)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from None
    return out


# --- files ---------------------------------------------------------------------------------------------------------------
KINDS = (
    _Kind("gqa", _find_gqa, _read_gqa), _Kind("chartqa", _find_chartqa, _read_chartqa), _Kind("ai2d", _find_ai2d, _read_ai2d),
    _Kind("seed", _find_seed, _read_seed), _Kind("hub", _find_hub, _read_hub),
)  # fmt: skip


def _find_picture(folders: Sequence[PictureFolder], names: Sequence[str], folder: Path) -> Path:
    if not folders:
        raise BadRecord(
            "absent", f"names the picture {names[0]!r}, and {folder} has no folder of pictures; give it as images=FOLDER"
        )
    return find_any(folders, names)


def _read_list(path: Path, what: str) -> list:
    content = read_json(path, what)
    if not isinstance(content, list):
        raise DataError(f"{path}: not a list; give {what}, as published")
    return content
