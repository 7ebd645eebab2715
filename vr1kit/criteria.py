"""Criteria and schedules: what counts as a good box, and how that rises with training (progressive rule refinement). Pure data.

    f(x) = 1 if x >= xi2;  0 if x < xi1;  else x          paper Eq. 8, with thresholds that depend on the stage (Sec. 3.3)

A schedule is a tuple of stages; each holds while progress, the share of training done, is below its `until`. A stage with
`end` criteria moves there evenly, from where it starts to where it ends: a ramp.

    two_stage(0.5)      the paper's: beginner, then advanced
    single_stage()      beginner only: STEP = 1, the paper's best for Qwen2.5-VL (Table 10)
    three_stage()       ours: a stage before the beginner's, for a base too weak to earn anything there
    ramp()              ours: from the beginner's criteria to the advanced ones, continuously
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Criteria:
    """What counts: an IoU of xi0 makes a prediction valid, f is 0 below xi1 and 1 from xi2 on."""

    xi0: float = 0.5  # defaults: paper Sec. 3.3, beginner stage
    xi1: float = 0.5
    xi2: float = 0.75

    def __post_init__(self) -> None:
        for name, value in (("xi0", self.xi0), ("xi1", self.xi1), ("xi2", self.xi2)):
            if not (isinstance(value, Real) and 0 <= value <= 1):
                raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")
        if self.xi1 > self.xi2:
            raise ValueError(f"xi1 must be at most xi2 {self.xi2!r}, got {self.xi1!r}")


BEGINNER = Criteria(xi0=0.5, xi1=0.5, xi2=0.75)  # paper Sec. 3.3
ADVANCED = Criteria(xi0=0.75, xi1=0.75, xi2=0.9)  # paper Sec. 3.3
NOVICE = Criteria(xi0=0.3, xi1=0.0, xi2=0.75)  # ours: every valid box adds something to recall; see `three_stage`


@dataclass(frozen=True)
class Stage:
    """Criteria that hold while the progress of training, from 0 to 1, is below `until`."""

    name: str
    until: float
    criteria: Criteria
    end: Criteria | None = None  # set: the criteria move evenly to these until the stage ends


@dataclass(frozen=True)
class Schedule:
    """Stages in order. The last ends at 1.0 and holds there too."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        ends = [stage.until for stage in self.stages]
        if not ends or ends[-1] != 1.0:
            raise ValueError(f"stages must end at until = 1.0, got {ends}")
        if not all(before < after for before, after in zip([0.0, *ends], ends, strict=False)):
            raise ValueError(f"stages must have increasing until above 0, got {ends}")

    def stage_at(self, progress: float) -> Stage:
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must be in [0, 1], got {progress!r}")
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def criteria_at(self, progress: float) -> Criteria:
        stage = self.stage_at(progress)
        if stage.end is None:
            return stage.criteria
        index = self.stages.index(stage)
        start = self.stages[index - 1].until if index else 0.0
        share = (progress - start) / (stage.until - start)
        a, b = stage.criteria, stage.end
        return Criteria(*(v + share * (w - v) for v, w in ((a.xi0, b.xi0), (a.xi1, b.xi1), (a.xi2, b.xi2))))


def two_stage(step: float = 0.5) -> Schedule:
    """The paper's progressive schedule, switching at the share `step` of training: its STEP.

    Best for Griffon-G: 1/2 (Table 5); for Qwen2.5-VL: 1, which never switches (Table 10). 0 is advanced only.
    """
    if not 0 <= step <= 1:
        raise ValueError(f"step must be in [0, 1], got {step!r}")
    stages = (Stage("beginner", float(step), BEGINNER), Stage("advanced", 1.0, ADVANCED))
    if step == 0:
        return Schedule(stages[1:])
    return Schedule(stages[: 1 if step == 1 else 2])


def single_stage(criteria: Criteria = BEGINNER, name: str = "beginner") -> Schedule:
    """One stage from beginning to end. With the beginner's criteria: the paper's STEP = 1."""
    return Schedule((Stage(name, 1.0, criteria),))


def three_stage(novice: float = 1 / 3, step: float = 2 / 3) -> Schedule:
    """Ours: `NOVICE` criteria until the share `novice` of training, then the paper's two, switching at `step`.

    Below xi1 the paper's recall reward is 0, whatever is added; a base that finds less than half of the objects is then paid for
    precision alone, and learns to say less. The novice stage pays every valid box.
    """
    if not 0 < novice < step < 1:
        raise ValueError(f"novice and step must satisfy 0 < novice < step < 1, got {novice!r} and {step!r}")
    return Schedule((Stage("novice", novice, NOVICE), Stage("beginner", step, BEGINNER), Stage("advanced", 1.0, ADVANCED)))


def ramp(start: Criteria = BEGINNER, end: Criteria = ADVANCED) -> Schedule:
    """Ours: thresholds that rise evenly over the whole training instead of in one jump."""
    return Schedule((Stage("ramp", 1.0, start, end),))
