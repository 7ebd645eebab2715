"""Greedy answers per second: `model.generate` picture by picture, and the kit's decoding in batches.

    python benchmarks/answering.py            # about two minutes on one thread; writes benchmarks/answering.{csv,png}

The same pictures, prompts, policy and limit. Answers are compared, too: neither batch nor padding may change one. Two mixed prompts, so
that batches are padded. Times are processor time, which a busy machine changes little.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from vr1kit.asking import MAX_NEW_TOKENS
from vr1kit.data import ask, read_coco, read_image
from vr1kit.drawing.style import BLUE, GREY, HATCHES, INK, new_chart, styled
from vr1kit.evaluate import answer_greedily, prepare_inputs
from vr1kit.models import load_policy
from vr1kit.safekeeping.files import write_csv_atomic
from vr1kit.scenes import write_scenes

PICTURES, BATCHES = 96, (1, 8, 64)


@torch.no_grad()
def answer_one_by_one(policy, paths: list[str], prompts: list[str]) -> list[str]:
    """A plain loop over transformers' own generate."""
    answers = []
    for path, prompt in zip(paths, prompts, strict=True):
        inputs = prepare_inputs(policy, [read_image(path)], [prompt])
        out = policy.model.generate(
            **inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS, eos_token_id=policy.tokenizer.eos_token_id,
            pad_token_id=policy.tokenizer.pad_token_id,
        )  # fmt: skip
        answers.append(policy.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


def measure(answer) -> tuple[float, list[str]]:
    """(seconds of processor time, answers)."""
    began = time.process_time()
    answers = answer()
    return time.process_time() - began, answers


@styled
def draw_bars(rows: list[dict]):
    figure = new_chart(6.4, 2.4)
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        rate, times = row["pictures_per_second"], row["times_generate"]
        axes.barh(y, rate, 0.6, color=GREY if y == 0 else BLUE, ec=INK, lw=0.6, hatch=HATCHES[min(y, 1)])
        axes.annotate(f"{rate:.1f}  (×{times:.1f})", (rate, y), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(right=1.3 * max(row["pictures_per_second"] for row in rows))
    axes.set_yticks(range(len(rows)), [row["way"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("pictures per second, greedy, one thread")
    axes.set_title("Answering, tiny policy")
    return figure


def main() -> None:
    torch.set_num_threads(1)
    policy = load_policy("mixed")
    policy.model.eval()
    with tempfile.TemporaryDirectory() as name:
        paths, prompts = [], []
        for domain in ("toybox", "traffic"):
            data = read_coco(write_scenes(Path(name) / domain, domain, range(500_000, 500_000 + PICTURES // 2)))
            paths += [str(r.image_path) for r in data.records]
            prompts += [ask(r, list(data.categories)).prompt for r in data.records]
        answer_one_by_one(policy, paths[:2], prompts[:2])  # warm up, and not counted
        seconds, expected = measure(lambda: answer_one_by_one(policy, paths, prompts))
        rows = [{"way": "model.generate, batch 1", "seconds": seconds, "same_answers": len(paths)}]
        for batch in BATCHES:
            seconds, answers = measure(lambda batch=batch: answer_greedily(policy, paths, prompts, batch=batch))
            same = sum(a == b for a, b in zip(answers, expected, strict=True))
            rows.append({"way": f"vr1kit, batch {batch}", "seconds": seconds, "same_answers": same})
    for row in rows:
        row["pictures_per_second"] = round(PICTURES / row["seconds"], 2)
        row["times_generate"] = round(rows[0]["seconds"] / row["seconds"], 2)
        row["seconds"] = round(row["seconds"], 2)
        print(row)
    out = Path(__file__)
    write_csv_atomic(out.with_suffix(".csv"), rows)
    out.with_suffix(".png").write_bytes(draw_bars(rows).to_png())


if __name__ == "__main__":
    main()
