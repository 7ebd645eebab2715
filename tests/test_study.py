"""The study on the smoke profile: steps are found again, jobs run side by side, a finished run can be published."""

from dataclasses import replace

import pytest

from vr1kit.annotators import SLOPPY
from vr1kit.jobs import (
    ABLATIONS,
    Job,
    count_steps,
    list_ablations,
    list_annotated,
    list_jobs,
    list_long_ablations,
    list_sweeps,
    list_weak,
    resolve,
)
from vr1kit.profiles import POLICIES, PROFILES, SHIFTED_NAMES, SPLITS, UNSEEN_NAMES, get_profile
from vr1kit.publish import publish
from vr1kit.reporting.trials import write_long_ablations, write_sweeps, write_weak
from vr1kit.runs import RunError, open_run, read_csv
from vr1kit.study import (
    MAIN_COLUMNS,
    collect_gallery,
    collect_rows,
    curate_mix,
    draw_data,
    evaluate_policy,
    main_table,
    train_policy,
)
from vr1kit.workers import _must_wait, run_jobs


def test_a_profile_lists_every_policy_of_every_base_and_seed():
    jobs = list_jobs("published")
    p = get_profile("published")
    expected = {(b, s, policy) for b in p.base_policies for s in p.seeds for policy in POLICIES[1:]} | {
        (b, 0, "base") for b in p.base_policies
    }
    assert {(j.base, j.seed, j.policy) for j in jobs} == expected
    assert len({j.name for j in jobs}) == len(jobs)
    for profile in PROFILES:
        assert len({j.name for j in [*list_jobs(profile), *list_ablations(profile), *list_sweeps(profile)]}) >= len(
            list_jobs(profile)
        )


def test_policies_differ_in_what_their_names_say():
    p = get_profile("tiny")
    assert resolve(Job("mixed", 0, "vision_r1"), p).credit == "completion"
    assert (
        resolve(Job("mixed", 0, "vision_r1_object"), p).credit == resolve(Job("mixed", 0, "sft_vision_r1"), p).credit == "object"
    )
    sft, equal = resolve(Job("mixed", 1, "sft"), p), resolve(Job("mixed", 1, "sft_equal_compute"), p)
    assert equal.epochs > 1 == sft.epochs and equal == replace(sft, epochs=equal.epochs, learning_rate=equal.learning_rate)
    assert sft.seed == 1
    assert count_steps(Job("mixed", 0, "sft"), p) == -(-p.mix.total // sft.batch)
    assert ABLATIONS["precision_only"][1]["reward_weights"] == (0.0, 0.0, 1.0)


def test_splits_never_meet():
    p = get_profile("published").pictures
    most = max(*p.train, *p.val, *p.test)
    starts = sorted(SPLITS.values())
    assert all(b - a > most for a, b in zip(starts, starts[1:], strict=False)) and starts[-1] + most < 10_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VR1KIT_RUNS", str(folder))
        yield folder


def evaluated(run):
    return [(job, evaluate_policy(run, "smoke", job, show=False)) for job in JOBS]


JOBS = [Job("mixed", 0, "base"), Job("mixed", 0, "sft"), Job("mixed", 0, "vision_r1_object")]


@pytest.fixture(scope="module")
def finished(runs):
    run_jobs("a", "smoke", JOBS)
    return open_run("a")


@pytest.mark.slow
def test_jobs_train_and_test_and_are_found_again(finished, runs):
    trained = train_policy("a", "smoke", JOBS[2])
    before = trained.provenance()["end"]
    run_jobs("a", "smoke", JOBS)
    assert train_policy("a", "smoke", JOBS[2]).provenance()["end"] == before
    assert [r["step"] for r in trained.read_log()] == [1, 2, 3, 4]
    assert (trained.path / "model" / "model.safetensors").exists() and (trained.path / "model-beginner").exists()
    rows = collect_rows(evaluated("a"))
    assert {r["set"] for r in rows if r["suite"] == "shifted13"} == {*SHIFTED_NAMES, "mean"}
    assert {r["set"] for r in rows if r["suite"] == "unseen4"} == {*UNSEEN_NAMES, "mean"}
    table = main_table(rows)
    assert tuple(table[0]) == MAIN_COLUMNS
    assert {r["policy"] for r in table} == {"base", "sft", "vision_r1_object"}


@pytest.mark.slow
def test_the_mix_keeps_the_papers_proportions_and_is_described(finished):
    mix = curate_mix("a", "smoke", 0)
    parts = read_csv(mix.path / "parts.csv")
    m = get_profile("smoke").mix
    assert sum(int(r["examples"]) for r in parts) == m.total
    assert {r["source"] for r in parts} <= {"toybox", *SHIFTED_NAMES}  # never an unseen domain
    assert draw_data("a", "smoke").state() == "done"


@pytest.mark.slow
def test_a_finished_run_is_published_small_and_frozen(finished, runs):
    collect_gallery("a", "smoke", "mixed", n=2)
    out = publish("a", "pub")
    assert out.frozen and not list(out.path.rglob("*.safetensors")) and not list(out.path.rglob("*.png"))
    assert sum(p.stat().st_size for p in out.path.rglob("*") if p.is_file()) < 2_000_000
    assert collect_rows(evaluated("pub")) == collect_rows(evaluated("a"))
    with pytest.raises(RunError, match="frozen"):
        train_policy("pub", "smoke", Job("converged", 0, "sft"))
    with pytest.raises(RunError, match="no steps"):
        publish("nothing", "pub2")


@pytest.mark.slow
def test_the_table_of_sweeps_has_what_was_tried_so_far(finished, runs):
    tried = [
        j
        for j in list_sweeps("smoke")
        if j.name.endswith("sft-epochs_1-learning_rate_0.002") and j.base == "mixed" and not j.annotator
    ]
    run_jobs("a", "smoke", tried, split="val")
    rows = read_csv(write_sweeps("a", "smoke").path / "sweeps.csv")
    assert [(r["base_policy"], r["policy"]) for r in rows] == [("mixed", "base"), ("converged", "base"), ("mixed", "sft")]
    assert rows[2]["learning_rate"] == 2e-3 and rows[2]["chosen"] in (True, "True") and 0 <= rows[2]["in_domain_AP"] <= 100


def test_the_same_method_learns_something_else_from_another_annotator(finished):
    jobs = {job.tag: job for job in list_annotated("smoke")}
    assert len(jobs) == 12 and {job.annotator for job in jobs.values()} == set(SLOPPY)
    step, truth = (
        train_policy("a", "smoke", jobs["annotator-unsorted-sft"], False),
        open_run("a").find("policies/mixed-seed0-sft"),
    )
    assert step.config["annotator"] == "unsorted" and "annotator" not in truth.config
    assert "annotators" in step.request()["code"] and "annotators" not in truth.request()["code"], "other labels make it stale"
    assert step.read_log()[0]["loss"] > truth.read_log()[0]["loss"], "the order that the base policy knows is easier to imitate"


@pytest.mark.slow
def test_a_weak_base_is_trained_first_and_both_schedules_start_from_it(finished):
    weak, *taught = list_weak("smoke")
    assert [job.tag for job in taught] == ["weak-beginner_only", "weak-novice_first"] and all(job.start == weak for job in taught)
    assert all(_must_wait(job, [weak]) and not _must_wait(job, taught) for job in taught)
    run_jobs("a", "smoke", [*taught, weak], split="val")
    rows = read_csv(write_weak("a", "smoke").path / "weak_base.csv")
    assert list(dict.fromkeys(r["policy"] for r in rows)) == ["base", "weak-base", *(job.tag for job in taught)]
    assert "sft" in open_run("a").find(f"policies/{taught[0].name}").inputs, "the weak base is what it was made from"


@pytest.mark.slow
def test_a_long_ablation_is_compared_with_vision_r1_on_the_test_split(finished):
    method, long = list_long_ablations("smoke")
    assert long.settings == replace(resolve(Job("mixed", 0, "vision_r1"), get_profile("smoke")), variant="strict")
    assert method == Job("mixed", 0, "vision_r1")
    run_jobs("a", "smoke", [method, long])
    step = write_long_ablations("a", "smoke")
    means = {(r["policy"], r["suite"], r["metric"]): r["value"] for r in read_csv(step.path / "long_ablations.csv")}
    for row in (r for r in read_csv(step.path / "changes.csv") if r["metric"] == "AP"):
        expected = means["long-strict", row["suite"], "AP"] - means["vision_r1", row["suite"], "AP"]
        assert row["ablation"] == "strict" and row["change"] == pytest.approx(expected) and row["low"] <= row["high"]


@pytest.mark.slow
def test_a_failing_job_says_which_and_shows_its_log(finished):
    with pytest.raises(RuntimeError, match="job nowhere-seed0-sft failed.*no such folder"):
        run_jobs("a", "smoke", [Job("nowhere", 0, "sft")])
    assert not (open_run("a").path / "policies/nowhere-seed0-sft/manifest.json").exists()


def test_an_unknown_profile_is_refused(runs):
    with pytest.raises(ValueError, match="profile 'big' is not known; take one of: tiny"):
        evaluate_policy("a", "big", JOBS[0])
