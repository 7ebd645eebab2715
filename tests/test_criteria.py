from dataclasses import FrozenInstanceError

import pytest

from vr1kit.criteria import (
    ADVANCED,
    BEGINNER,
    NOVICE,
    Criteria,
    Schedule,
    Stage,
    ramp,
    single_stage,
    three_stage,
    two_stage,
)  # fmt: skip


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", None])
def test_criteria_are_checked(value):
    for name in ("xi0", "xi1", "xi2"):
        with pytest.raises(ValueError, match=f"{name}.*{value}"):
            Criteria(**{name: value})


def test_criteria_in_order_and_frozen():
    with pytest.raises(ValueError, match=r"xi1.*xi2 0\.5.*0\.75"):
        Criteria(0.5, 0.75, 0.5)
    with pytest.raises(FrozenInstanceError):
        BEGINNER.xi0 = 0.1


def test_stages_of_the_paper():
    assert Criteria(0.5, 0.5, 0.75) == BEGINNER
    assert Criteria(0.75, 0.75, 0.9) == ADVANCED


def test_two_stages():
    schedule = two_stage()
    assert [schedule.stage_at(progress).name for progress in (0, 0.25, 0.499, 0.5, 0.75, 1)] == [
        "beginner", "beginner", "beginner", "advanced", "advanced", "advanced"]  # fmt: skip
    assert schedule.criteria_at(0.49) == BEGINNER and schedule.criteria_at(0.5) == ADVANCED
    assert two_stage(1 / 3).stage_at(0.4).name == "advanced"
    assert {two_stage(1).stage_at(progress).name for progress in (0, 0.5, 1)} == {"beginner"}
    assert {two_stage(0).stage_at(progress).name for progress in (0, 0.5, 1)} == {"advanced"}


def test_a_schedule_is_data():
    warmup = Stage("warm-up", 0.1, Criteria(0.2, 0.0, 1.0))
    schedule = Schedule((warmup, Stage("beginner", 0.5, BEGINNER), Stage("advanced", 1.0, ADVANCED)))
    assert schedule.stage_at(0.05) is warmup
    assert schedule.stage_at(0.1).name == "beginner"
    assert schedule == Schedule((warmup, *two_stage(0.5).stages))


@pytest.mark.parametrize("ends", [(), (0.5,), (0.5, 0.9), (0.5, 0.5, 1.0), (0.7, 0.5, 1.0), (0.0, 1.0), (1.0, 1.0), (1.5,)])
def test_schedules_are_checked(ends):
    with pytest.raises(ValueError, match="until"):
        Schedule(tuple(Stage("s", end, BEGINNER) for end in ends))


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_progress_and_step_are_checked(value):
    with pytest.raises(ValueError, match=f"progress.*{value}"):
        two_stage().criteria_at(value)
    with pytest.raises(ValueError, match=f"step.*{value}"):
        two_stage(value)


def test_one_stage_is_the_papers_step_1():
    assert single_stage() == two_stage(1)
    assert single_stage(ADVANCED, "advanced") == two_stage(0)


def test_three_stages_begin_where_every_valid_box_pays():
    schedule = three_stage()
    assert [schedule.stage_at(p).name for p in (0, 0.3, 0.34, 0.66, 0.67, 1)] == [
        "novice", "novice", "beginner", "beginner", "advanced", "advanced"]  # fmt: skip
    assert NOVICE.xi1 == 0
    with pytest.raises(ValueError, match=r"novice.*0\.7.*0\.5"):
        three_stage(0.7, 0.5)


def test_a_ramp_moves_evenly():
    schedule = ramp()
    assert schedule.criteria_at(0) == BEGINNER and schedule.criteria_at(1) == ADVANCED
    half = schedule.criteria_at(0.5)
    assert (half.xi0, half.xi1, half.xi2) == pytest.approx((0.625, 0.625, 0.825))
    late = Schedule((Stage("still", 0.5, BEGINNER), Stage("ramp", 1.0, BEGINNER, ADVANCED)))  # a ramp that starts half-way
    assert late.criteria_at(0.49) == BEGINNER == late.criteria_at(0.5)
    assert late.criteria_at(0.75).xi0 == pytest.approx(0.625)
