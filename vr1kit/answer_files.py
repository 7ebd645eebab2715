"""Answers of large models: shared out over processes, kept picture by picture, continued after an interruption.

Every process appends to its own file in one folder, answers-RANK.jsonl, one JSON object {index, key, answer} per question, as
soon as a batch is done. Whoever comes next, with any number of processes, reads all files and answers what is missing. `key`
is made of question and picture: a file of other questions is refused, not mixed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vr1kit.files import digest


def question_key(image_path: str, prompt: str) -> str:
    return digest([Path(image_path).name, prompt])[:16]


def read_answers(folder: Path, keys: Sequence[str]) -> dict[int, str]:
    """Answers that are there, by place. A last line cut short by a kill is left out. Raises ValueError for other questions."""
    found: dict[int, str] = {}
    for path in sorted(Path(folder).glob("answers-*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:  # a whole line ends in a newline
            if not line:
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # cut short, and continued on the same line by a later run
                continue
            if row["index"] >= len(keys) or keys[row["index"]] != row["key"]:
                raise ValueError(f"{path}: holds answers to other questions; delete it, or take another --label")
            found[row["index"]] = row["answer"]
    return found


def answer_share(
    answer: Callable[[Sequence[str], Sequence[str]], Sequence[str]],
    image_paths: Sequence[str],
    prompts: Sequence[str],
    folder: Path,
    rank: int = 0,
    processes: int = 1,
    batch: int = 16,
    missing: Sequence[int] | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Answer this process's share of what is `missing` (see `list_missing`), batch by batch, each written at once.

    answer(image_paths, prompts) -> texts. All processes must be given the same `missing`: one that looks later would see less.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = [question_key(*pair) for pair in zip(image_paths, prompts, strict=True)]
    mine = (list_missing(image_paths, prompts, folder) if missing is None else missing)[rank::processes]
    mine = sorted(mine, key=lambda i: (len(prompts[i]), prompts[i]))  # equal questions together: no padding
    with open(folder / f"answers-{rank}.jsonl", "a", encoding="utf-8") as out:
        if out.tell():
            out.write("\n")  # ends a line that was cut short; an empty one is skipped
        for start in progress(range(0, len(mine), batch)):
            chunk = mine[start : start + batch]
            for i, text in zip(chunk, answer([image_paths[i] for i in chunk], [prompts[i] for i in chunk]), strict=True):
                out.write(json.dumps({"index": i, "key": keys[i], "answer": text}) + "\n")
            out.flush()


def list_missing(image_paths: Sequence[str], prompts: Sequence[str], folder: Path) -> list[int]:
    """Places of the questions without an answer."""
    there = read_answers(folder, [question_key(*pair) for pair in zip(image_paths, prompts, strict=True)])
    return [i for i in range(len(prompts)) if i not in there]
