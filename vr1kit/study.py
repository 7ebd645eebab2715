"""The study as steps: data -> curated mix -> policies -> evaluation -> tables. Each is done once and found again.

    runs/NAME/data/scenes/                        pictures and COCO files
    runs/NAME/data/mix-seed0/                     the curated mix (datasets folder), card.md
    runs/NAME/policies/mixed-seed0-vision_r1/     model, log.jsonl
    runs/NAME/evaluation/mixed-seed0-vision_r1/   rows.csv, predictions.jsonl

Policies are independent of each other (but for those that start from another, as `sft_vision_r1` from `sft`), so
`vr1kit.workers` trains them side by side. Nothing here knows which profile it runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from vr1kit.annotators import ANNOTATORS, annotate
from vr1kit.data import DetectionSet, Example, Part, curate, read_coco, to_dataset
from vr1kit.jobs import Job, resolve
from vr1kit.profiles import SHIFTED_NAMES, SPLITS, UNSEEN_NAMES, Profile, domains_of, get_profile
from vr1kit.runs import Step, open_run, read_csv, read_json
from vr1kit.safekeeping import checkpoints
from vr1kit.safekeeping.files import file_hash, open_folder_atomic
from vr1kit.safekeeping.interruption import worker_pool
from vr1kit.scenes import TOYBOX, ask_question, draw_scene, write_scenes
from vr1kit.settings import SftSettings

BYTES_PER_PICTURE = 40_000  # measured: 15 to 35 kB, with its part of the annotations
MAIN_COLUMNS = ("base_policy", "seed", "policy", "suite", "metric", "value", "n_images")


# --- data ---------------------------------------------------------------------------------------------------------------------
def _scene_jobs(profile: Profile) -> list[tuple[str, str, int, int]]:
    """(folder, domain, first seed, n)"""
    p, jobs = profile.pictures, []
    for split, (toybox, shifted) in (("train", p.train), ("val", p.val), ("test", p.test[:2])):
        jobs.append((f"{split}/{TOYBOX.name}", TOYBOX.name, SPLITS[split], toybox))
        jobs += [(f"{split}/{d}", d, SPLITS[split], shifted) for d in SHIFTED_NAMES]
    return jobs + [(f"test/{d}", d, SPLITS["test"], p.test[2]) for d in UNSEEN_NAMES]


def draw_data(run: str, profile: str) -> Step:
    """Draw all splits of all domains, and the questions; nothing is drawn twice."""
    config = {"pictures": asdict(get_profile(profile).pictures), "splits": SPLITS}
    step = open_run(run).step("data/scenes", config, code=["scenes"])
    if step.state() == "done":
        return step
    jobs = _scene_jobs(get_profile(profile))
    step.begin(BYTES_PER_PICTURE * sum(n for *_, n in jobs))
    with (
        worker_pool(get_profile(profile).workers, None) as pool,
        tqdm(total=sum(n for *_, n in jobs), desc="drawing", unit="picture") as bar,
    ):
        futures = [
            pool.submit(write_scenes, step.path / folder, domain, range(first, first + n)) for folder, domain, first, n in jobs
        ]
        for future, (*_, n) in zip(futures, jobs, strict=True):
            future.result()
            bar.update(n)
    step.write_json("questions.json", _make_questions(get_profile(profile)))
    step.finish({"pictures": sum(n for *_, n in jobs)})
    return step


def _make_questions(profile: Profile) -> list[dict]:
    """One question about each of the first test pictures of the toy box."""
    rows = []
    for k in range(profile.pictures.questions):
        seed = SPLITS["test"] + k % profile.pictures.test[0]
        q = ask_question(draw_scene(TOYBOX.name, seed), k)
        image = f"test/{TOYBOX.name}/images/{TOYBOX.name}_{seed:07d}.png"
        rows.append({"image": image, "image_id": k, "question": q.question, "answer": q.answer, "kind": q.kind})
    return rows


def read_split(run: str, profile: str, split: str) -> dict[str, DetectionSet]:
    """All detection sets of a split by name."""
    root = draw_data(run, profile).path / split
    return {f.name: read_coco(f / "annotations.json") for f in sorted(root.iterdir())}


def curate_mix(run: str, profile: str, seed: int) -> Step:
    """The curated mix: toy box detection, shifted domains (half detection, half grounding), referring in the toy box."""
    p = get_profile(profile)
    scenes = draw_data(run, profile)
    step = open_run(run).step(
        f"data/mix-seed{seed}", {"mix": asdict(p.mix), "seed": seed}, {"scenes": scenes}, code=["data", "models"]
    )
    if step.state() == "done":
        return step
    from vr1kit.models import load_policy

    step.begin()
    examples, dropped = curate(read_split(run, profile, "train"), mix_parts(p), seed)
    dataset = to_dataset(examples, load_policy("mixed").write_boxes, scenes.path)
    with open_folder_atomic(step.path / "dataset") as folder:
        dataset.save_to_disk(str(folder))
    step.write_csv("dropped.csv", dropped, ("source", "image_id", "reason"))
    step.write_csv("parts.csv", describe_mix(examples))
    step.write_json("sample.json", [describe_example(e) for e in examples[:24]])
    step.finish({"examples": len(examples), "dropped": len(dropped)})
    return step


def describe_example(example: Example) -> dict:
    """An example as plain data; its picture can be drawn again from domain and seed."""
    return {
        "domain": example.record.source, "seed": int(example.record.image_path.stem.rsplit("_", 1)[1]), "task": example.task,
        "prompt": example.prompt, "labels": list(example.labels), "boxes_xyxy_px": example.boxes_xyxy_px.tolist(),
    }  # fmt: skip


def mix_parts(profile: Profile) -> list[Part]:
    m = profile.mix
    return [
        Part("detection", (TOYBOX.name,), "detection", m.detection),
        Part("other domains, detection", SHIFTED_NAMES, "detection", m.other_domains // 2),
        Part("other domains, grounding", SHIFTED_NAMES, "grounding", m.other_domains - m.other_domains // 2),
        Part("referring", (TOYBOX.name,), "grounding", m.referring),
    ]


def describe_mix(examples: Sequence[Example]) -> list[dict]:
    """Rows {source, task, examples, boxes, dense_share}."""
    groups: dict[tuple[str, str], list[Example]] = {}
    for e in examples:
        groups.setdefault((e.record.source, e.task), []).append(e)
    return [
        {
            "source": source, "task": task, "examples": len(group), "boxes": sum(len(e.labels) for e in group),
            "dense_share": round(float(np.mean([len(e.labels) > 6 for e in group])), 3),
        }
        for (source, task), group in sorted(groups.items())
    ]  # fmt: skip


def load_suites(run: str, profile: str, split: str = "test"):
    """The evaluation suites of a split; questions belong to the test split."""
    from vr1kit.evaluate import Suites

    scenes, sets = draw_data(run, profile), read_split(run, profile, split)
    groups = {
        suite: [sets[name] for name in domains_of(suite)]
        for suite in ("in_domain", "shifted13", "unseen4")
        if all(name in sets for name in domains_of(suite))
    }
    questions = read_json(scenes.path / "questions.json") if split == "test" else []
    rows = [{**q, "image": str(scenes.path / q["image"])} for q in questions]
    return Suites(groups, rows)


# --- policies -------------------------------------------------------------------------------------------------------------------
def train_policy(run: str, profile: str, job: Job, show: bool = True) -> Step:
    """Train one policy, or find it trained. Returns its step; the model is in step.path / "model"."""
    from vr1kit.models import BASE_POLICIES, POLICIES

    settings = resolve(job, get_profile(profile))
    start = POLICIES / job.base if job.base in BASE_POLICIES else Path(job.base)
    inputs: dict[str, Step | str] = {"mix": curate_mix(run, profile, job.seed)}
    if job.start:
        inputs[job.start.policy] = train_policy(run, profile, job.start, show)
        start = inputs[job.start.policy].path / "model"
    kind = "sft" if isinstance(settings, SftSettings) else "grpo"
    config = {"base_policy": job.base, "policy": job.policy, "seed": job.seed, kind: settings.to_config()}
    config |= {"annotator": job.annotator} if job.annotator else {}
    step = open_run(run).step(f"policies/{job.name}", config, inputs, code=[kind, *(["annotators"] if job.annotator else [])])
    if step.state() == "done":
        return step
    from datasets import load_from_disk

    from vr1kit.models import load_policy, save_policy

    resumed = step.begin(_training_bytes(start))
    dataset, root = load_from_disk(str(inputs["mix"].path / "dataset")), draw_data(run, profile).path
    if job.annotator:
        dataset = annotate_dataset(dataset, job.annotator, job.seed)
    policy = load_policy(start)
    if kind == "sft":
        from vr1kit.sft import train_sft as train
    else:
        from vr1kit.grpo import train_grpo as train
    if resumed:
        last = checkpoints.number_of(checkpoints.find_last(step.path / "checkpoints"))
        step.trim_log(lambda row: row["step"] <= last)
    began = time.time()
    policy = train(policy, dataset, root, settings, step.path, step.append_log, show)
    save_policy(policy, step.path / "model")
    rows = step.read_log()
    step.finish({"steps": rows[-1]["step"], "train_seconds": round(time.time() - began, 1), **_last_means(rows)})
    return step


def annotate_dataset(dataset, annotator: str, seed: int):
    """The mix with the labels that an annotator gives; the same for every policy of a seed."""
    rng = np.random.default_rng([seed, list(ANNOTATORS).index(annotator)])

    def change(row: dict) -> dict:
        boxes, labels = annotate(np.array(row["boxes_xyxy"]), row["labels"], tuple(row["size"]), annotator, rng)
        return {"boxes_xyxy": boxes.tolist(), "labels": labels}

    return dataset.map(change, load_from_cache_file=False, keep_in_memory=True)


def _training_bytes(start: Path) -> int:
    """Two checkpoints of weights and two moments each, the policy, and a stage's snapshot twice: nine times the weights."""
    return 9 * sum(path.stat().st_size for path in start.glob("*.safetensors"))


def _last_means(rows: Sequence[dict], n: int = 10) -> dict[str, float]:
    """Means of the last logged steps: what training ended at."""
    tail = rows[-n:]
    keys = ("reward", "dual_format", "recall", "precision", "tokens", "loss")
    return {f"last_{k}": round(float(np.mean([r[k] for r in tail])), 4) for k in keys if k in tail[-1]}


def evaluate_policy(run: str, profile: str, job: Job, split: str = "test", show: bool = True) -> Step:
    """Test one policy on a split, or find its results. rows.csv: suite, set, metric, value, n_images."""
    from vr1kit.models import POLICIES

    inputs: dict[str, Step | str] = {"scenes": draw_data(run, profile)}
    if job.policy == "base":
        folder = POLICIES / job.base
        inputs["policy"] = file_hash(folder / "model.safetensors")
    else:
        inputs["policy"] = train_policy(run, profile, job, show)
        folder = inputs["policy"].path / "model"
    name = "evaluation" if split == "test" else f"evaluation_{split}"
    step = open_run(run).step(f"{name}/{job.name}", {"split": split}, inputs, code=["evaluate"])
    if step.state() == "done":
        return step
    from vr1kit import evaluate
    from vr1kit.models import load_policy

    step.begin()
    bar = lambda it: tqdm(it, desc=f"testing {job.name}", disable=not show, mininterval=2)  # noqa: E731
    rows = evaluate.evaluate_policy(load_policy(folder), load_suites(run, profile, split), step.path, bar)
    step.write_csv("rows.csv", rows)
    step.finish({f"{r['suite']}_{r['metric']}": r["value"] for r in rows if r["set"] == "mean"})
    return step


# --- the same pictures before, after stage 1 and after stage 2 -----------------------------------------------------------------
def collect_gallery(run: str, profile: str, base: str, seed: int = 0, policy: str = "vision_r1_object", n: int = 12) -> Step:
    """Answers of the base, of Vision-R1 after each stage and of SFT on the first `n` test pictures of the toy box and one of each
    other domain. gallery.json: rows {domain, seed, labels, boxes_xyxy_px, answers: {policy or stage: {boxes_xyxy_px, labels}}}.
    """
    scenes = draw_data(run, profile)
    trained = {
        p: train_policy(run, profile, Job(base, seed, p), show=False)
        for p in ("sft", policy)
        if p in get_profile(profile).policies
    }
    step = open_run(run).step(
        f"gallery/{base}-seed{seed}", {"n": n, "policy": policy}, {"scenes": scenes, **trained}, code=["evaluate"]
    )
    if step.state() == "done":
        return step
    from vr1kit import evaluate
    from vr1kit.data import ask
    from vr1kit.models import POLICIES, load_policy

    step.begin()
    sets = read_split(run, profile, "test")
    chosen = [(sets[TOYBOX.name], r) for r in sets[TOYBOX.name].records[:n]]
    chosen += [(sets[d], sets[d].records[0]) for d in (*SHIFTED_NAMES, *UNSEEN_NAMES)]
    folders = {"base": POLICIES / base, **{p: s.path / "model" for p, s in trained.items() if p == "sft"}}
    for folder in sorted(trained[policy].path.glob("model*")) if policy in trained else ():
        folders[folder.name.removeprefix("model-") if folder.name != "model" else policy] = folder
    rows = [
        {
            "domain": data.name, "seed": int(r.image_path.stem.rsplit("_", 1)[1]), "labels": list(r.labels),
            "boxes_xyxy_px": r.boxes_xyxy_px.tolist(), "answers": {},
        }
        for data, r in chosen
    ]  # fmt: skip
    for name, folder in folders.items():
        loaded = load_policy(folder)
        paths, prompts = [str(r.image_path) for _, r in chosen], [ask(r, list(d.categories)).prompt for d, r in chosen]
        for row, (_, r), text in zip(rows, chosen, evaluate.answer_greedily(loaded, paths, prompts), strict=True):
            parsed = loaded.read_answer(text, r.width, r.height)
            boxes = loaded.read_boxes(parsed.boxes_xyxy, r.width, r.height)
            row["answers"][name] = {"boxes_xyxy_px": boxes.tolist(), "labels": list(parsed.labels), "text": text}
    step.write_json("gallery.json", rows)
    step.finish({"pictures": len(rows)})
    return step


# --- tables -----------------------------------------------------------------------------------------------------------------------
def collect_rows(evaluated: Sequence[tuple[Job, Step]], base_seeds: Sequence[int] = (0,)) -> list[dict]:
    """All results of evaluated jobs, sets included: main.csv's columns and `set`. The base is repeated for each of its seeds."""
    rows = []
    for job, step in evaluated:
        for seed in base_seeds if job.policy == "base" else (job.seed,):
            for r in read_csv(step.path / "rows.csv"):
                row = {"base_policy": job.base, "seed": seed, "policy": job.tag or job.policy, **r}
                rows.append({**row, "value": float(r["value"]), "n_images": int(r["n_images"])})
    return rows


def main_table(rows: Sequence[dict]) -> list[dict]:
    """Means over sets only, in main.csv's columns."""
    return [{c: r[c] for c in MAIN_COLUMNS} for r in rows if r["set"] == "mean"]
