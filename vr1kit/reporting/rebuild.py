"""Everything that the paper shows, rebuilt by one command from the small files of a run: tables and figures. No torch, no weights.

    vr1kit tables --run published          ->  paper_figures/tables/*, paper_figures/*.{png,pdf}

Every file says which run and which commit it came from. What a run does not have is left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vr1kit import figures
from vr1kit.criteria import two_stage
from vr1kit.drawing.style import Chart, save_figure
from vr1kit.evaluations import settings_of
from vr1kit.measures.confidence import calibrate
from vr1kit.measures.outcomes import find_outcomes
from vr1kit.profiles import SHIFTED_NAMES, UNSEEN_NAMES
from vr1kit.reporting.comparison import compare
from vr1kit.reporting.paper_tables import Measured, write_tables
from vr1kit.results import read_paper
from vr1kit.runs import Run, Step, open_run
from vr1kit.safekeeping.files import read_csv, read_json
from vr1kit.scenes import draw_scene


def rebuild(run: str, folder: Path, pair: Sequence[Step] = ()) -> tuple[list[Path], list[str]]:
    """Write all tables and figures of a run; of a pair of evaluations (before, after) the figures of calibration and errors too.

    Returns the files, and the names of figures that the run has nothing for. Raises RunError for a run without results.
    """
    measured = Measured(open_run(run))
    about = {"run": run, "commit": measured.commit}
    files, left_out = write_tables(run, folder / "tables"), []
    for name, draw in list_figures(measured.run, measured, pair).items():
        figure = draw()
        if figure is None:
            left_out.append(name)
        else:
            files += save_figure(figure, name, folder, about)
    return files, left_out


def list_figures(run: Run, measured: Measured, pair: Sequence[Step] = ()) -> dict[str, Callable[[], Chart | None]]:
    """Name -> what draws it; None where the run has no material."""
    paper, path = read_paper(), run.path
    rows, intervals = read_csv(path / "results/main.csv"), _read(path / "results/intervals.csv")
    bases = measured.results.base_policies()
    places = [("toybox", seed) for seed in range(4)] + [(name, 1) for name in (*SHIFTED_NAMES, *UNSEEN_NAMES)]
    drawn: dict[str, Callable[[], Chart | None]] = {
        "main": lambda: figures.plot_main(rows, paper, intervals),
        "before_after": lambda: _draw_gallery(path),
        **{f"rewards_{base}": lambda base=base: _draw_rewards(run, base) for base in bases},
        "domains": lambda: figures.plot_domains(measured.sets) if measured.sets else None,
        "ablations": lambda: figures.plot_ablation(measured.ablations, paper) if measured.ablations else None,
        "set_gains_paper": lambda: figures.plot_set_gains(figures.paper_gains_of_all(paper)),
        "differentiation": figures.plot_differentiation,
        "schedule": lambda: figures.plot_schedule(two_stage(0.5)),
        "scenes": lambda: figures.sheet([draw_scene(*place) for place in places], columns=7, side=1.6),
    }
    if pair:
        drawn |= {"calibration": lambda: _draw_calibration(pair), "errors": lambda: _draw_errors(pair)}
    return drawn


def _read(path: Path) -> list[dict] | None:
    return read_csv(path) if path.is_file() else None


def _draw_gallery(path: Path) -> Chart | None:
    found = sorted((path / "gallery").glob("mixed-*/gallery.json")) or sorted((path / "gallery").glob("*/gallery.json"))
    if not found:
        return None
    rows = read_json(found[0])
    columns = [p for p in ("base", "beginner", "vision_r1", "vision_r1_object") if p in rows[0]["answers"]]
    return figures.plot_before_after(rows[:4], ("truth", *columns))


def _draw_rewards(run: Run, base: str) -> Chart | None:
    """The reward curves of the first seed of each policy of the study."""
    logs: dict[str, list[dict]] = {}
    for name in run.step_names():
        config = run.find(name).config if name.startswith("policies/") and "ablation-" not in name else {}
        if config.get("base_policy") == base and config.get("seed") == 0 and name == f"policies/{base}-seed0-{config['policy']}":
            rows = run.find(name).read_log()
            if rows and "reward" in rows[0]:
                logs[config["policy"]] = rows
    return figures.plot_rewards(logs) if logs else None


def calibrate_evaluation(step: Step) -> Any:
    """Reliability of the scores of a detection evaluation, hits being COCO's at IoU 0.5. Returns a `confidence.Calibration`."""
    outcomes = find_outcomes(step.path / "truth.json", read_json(step.path / "detections.json"), (0.5,))
    counted = ~outcomes.ignored[:, 0]
    return calibrate(outcomes.detections.score[counted], outcomes.hit[counted, 0])


def _draw_calibration(pair: Sequence[Step]) -> Chart:
    settings = [settings_of(step) for step in pair]
    named: Mapping[str, Any] = {
        f"{step.run.name}, {s.score_name}": calibrate_evaluation(step) for step, s in zip(pair, settings, strict=True)
    }
    return figures.plot_calibration(named)


def _draw_errors(pair: Sequence[Step]) -> Chart:
    compared = compare(*pair, resamples=1, shown=0)
    tables = {"all": compared.errors, "by size": compared.errors_by_size, "by number of objects": compared.errors_by_number}
    return figures.plot_errors(tables, compared.names)
