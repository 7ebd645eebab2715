"""Tables and verdicts: every number here can be checked by hand."""

import csv
import io
import json
import math

import pytest

from vr1kit.reporting.tables import (
    ablation_changes,
    ablation_table,
    best_credit,
    error_table,
    main_table,
    read_paper,
    show_verdicts,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    verdicts,
)
from vr1kit.results import PAPER_MODELS, Results, paper_value, policy_name, t_interval

PAPER = read_paper()


def row(base, policy, value, seed=0, suite="in_domain", metric="AP"):
    return {
        "base_policy": base,
        "seed": seed,
        "policy": policy,
        "suite": suite,
        "metric": metric,
        "value": value,
        "n_images": 9,
    }


def rows_of(table, **wanted):
    return [r for r in table if all(r[k] == v for k, v in wanted.items())]


def seeds(base, policy, values, **kwargs):
    return [row(base, policy, v, seed, **kwargs) for seed, v in enumerate(values)]


def test_the_t_interval_by_hand():
    e = t_interval([10.0, 12.0, 14.0])  # mean 12, s 2, t(2) = 4.3027, 4.3027 * 2 / sqrt(3) = 4.968
    assert e.mean == 12 and e.high - e.mean == pytest.approx(4.3027 * 2 / math.sqrt(3), abs=1e-3)
    assert e.low == pytest.approx(7.032, abs=1e-3) and "3 seeds" in e.how
    assert t_interval([5.0]).low is None


def test_the_papers_numbers_come_from_its_file():
    assert paper_value(PAPER, "mixed", "base", "in_domain", "AP") == 17.7
    assert paper_value(PAPER, "converged", "vision_r1", "shifted13", "AP") == 46.3
    assert paper_value(PAPER, "mixed", "sft", "unseen4", "AP") == 17.9
    assert paper_value(PAPER, "mixed", "base", "questions", "accuracy") == pytest.approx((58.8 + 80.8 + 87.5 + 76.7) / 4)
    assert paper_value(PAPER, "mixed", "vision_r1_object", "in_domain", "AP") is None
    assert paper_value(PAPER, "another", "base", "in_domain", "AP") is None
    changed = json.loads(json.dumps(PAPER))
    changed["table1_main"]["qwen2_5_vl_7b"]["vision_r1"][2] = 35.4  # twice 17.7: the goal must follow
    rows = [row("mixed", "base", 20.0), row("mixed", "vision_r1", 36.0)]
    assert verdicts(rows, None, changed)[0]["target"] == pytest.approx(2.0, abs=0.011)


def test_the_main_table_has_ours_and_below_it_the_papers():
    rows = seeds("mixed", "base", [20.0, 20.0, 20.0]) + seeds("mixed", "vision_r1", [28.0, 30.0, 32.0])
    rows += [row("mixed", "vision_r1_object", 40.0)]
    table = main_table(rows, PAPER)
    assert [(r["policy"], r["source"]) for r in table] == [
        ("base", "ours"), ("base", "paper"), ("vision_r1", "ours"), ("vision_r1", "paper"), ("vision_r1_object", "ours"),
    ]  # fmt: skip
    base, _, ours, theirs, single = table
    assert base["in_domain_AP"] == 20 and base["in_domain_AP_low"] is None, "one base is no sample of three"
    assert ours["in_domain_AP"] == 30 and ours["in_domain_AP_ratio"] == 1.5 and ours["seeds"] == 3
    assert ours["in_domain_AP_high"] == pytest.approx(34.968, abs=1e-3)
    assert theirs["in_domain_AP"] == 26.6 and theirs["in_domain_AP_ratio"] == pytest.approx(26.6 / 17.7)
    assert single["in_domain_AP_low"] is None and single["shifted13_AP"] is None


def test_given_intervals_are_used():
    rows = [row("mixed", "base", 20.0), row("mixed", "sft", 30.0)]
    interval = {
        "base_policy": "mixed",
        "policy": "sft",
        "suite": "in_domain",
        "metric": "AP",
        "mean": 30,
        "low": 28,
        "high": 33,
    }
    ours = rows_of(main_table(rows, PAPER, [interval]), policy="sft", source="ours")[0]
    assert (ours["in_domain_AP"], ours["in_domain_AP_low"], ours["in_domain_AP_high"]) == (30, 28, 33)


def test_contrasts_take_the_paired_interval_then_the_two_intervals_then_the_seeds():
    rows = seeds("mixed", "base", [20.0] * 3) + seeds("mixed", "sft", [30.0, 31.0, 32.0])
    place = ("mixed", "sft", "base", "in_domain", "AP")
    over_seeds = Results(rows).contrast(*place, "difference")
    assert over_seeds.mean == 11 and over_seeds.high - 11 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)
    common = {"base_policy": "mixed", "suite": "in_domain", "metric": "AP"}
    marginal = [
        common | {"policy": "base", "low": 17.0, "high": 23.0},
        common | {"policy": "sft", "low": 27.0, "high": 35.0},
    ]
    apart = Results(rows, marginal).contrast(*place, "difference")  # 11 - sqrt(4² + 3²), 11 + sqrt(4² + 3²)
    assert (apart.low, apart.high) == (pytest.approx(6.0), pytest.approx(16.0))
    ratio = Results(rows, marginal).contrast(*place, "ratio")
    assert ratio.mean == pytest.approx(31 / 20) and 1.2 < ratio.low < 1.55 < ratio.high < 2.0
    paired = [*marginal, common | {"policy": "sft", "kind": "difference", "against": "base", "low": 10.0, "high": 12.0}]
    assert Results(rows, paired).contrast(*place, "difference").low == 10.0
    assert Results([row("mixed", "base", 0.0), row("mixed", "sft", 3.0)]).contrast(*place, "ratio") is None


def study(mixed=(20.0, 31.0), converged=(60.0, 61.0, 0.1), sft=29.0):
    """Three seeds; object credit is the better one; the spread of the converged gain is given."""
    gain, spread = converged[1], converged[2]
    rows = seeds("mixed", "base", [mixed[0]] * 3) + seeds("converged", "base", [converged[0]] * 3)
    for base, values in (("mixed", [mixed[1]] * 3), ("converged", [gain - spread, gain, gain + spread])):
        rows += seeds(base, "vision_r1_object", values) + seeds(base, "vision_r1", [v - 5 for v in values])
    rows += seeds("mixed", "sft", [sft - 0.1, sft, sft + 0.1]) + seeds("converged", "sft", [60.0, 61.0, 62.0])
    return rows


def by_goal(table, *words):
    found = [r for r in table if all(word in r["goal"] for word in words)]
    assert len(found) == 1, [r["goal"] for r in found]
    return found[0]


def test_verdicts_by_hand():
    table = verdicts(study(), None, PAPER)
    assert len(table) == 17
    first = by_goal(table, "mixed", "in-domain", "over the base")
    assert first["value"] == pytest.approx(1.55) and first["target"] == 1.5 and first["holds"] is True
    assert "object credit" in first["goal"] and first["paper"] == pytest.approx(26.6 / 17.7)
    assert by_goal(table, "mixed", "13 shifted", "over the base")["verdict"] == "no result"
    assert by_goal(table, "mixed", "13 shifted", "over the base")["target"] == 1.24
    gain = by_goal(table, "converged", "gains over")
    assert gain["value"] == pytest.approx(1.0) and gain["low"] == pytest.approx(1 - 0.2484, abs=1e-3) and gain["holds"]
    assert by_goal(table, "mixed, in-domain", "same compute")["verdict"] == "no result", "which nobody trained here"


@pytest.mark.parametrize("sft, verdict", [(29.0, "win"), (33.0, "loss"), (31.05, "tie")])
def test_against_sft_it_is_said_as_it_is(sft, verdict):
    table = [r for r in verdicts(study(sft=sft), None, PAPER) if not r["goal"].endswith("compute")]
    assert by_goal(table, "mixed, in-domain", "against SFT")["verdict"] == verdict
    assert by_goal(table, "converged, in-domain", "against SFT")["verdict"] == "tie"


def test_missed_open_and_no_loss():
    table = verdicts(study(mixed=(20.0, 29.0), converged=(60.0, 61.0, 2.0)), None, PAPER)
    assert by_goal(table, "mixed", "in-domain", "over the base")["holds"] is False
    assert by_goal(table, "converged", "gains over")["verdict"] == "missed"  # 1 ± 4.97
    one_seed = [r for r in study() if r["seed"] == 0]
    assert by_goal(verdicts(one_seed, None, PAPER), "converged", "gains over")["verdict"] == "open: no interval"
    ask = {"suite": "questions", "metric": "accuracy"}
    rows = study() + seeds("mixed", "base", [70.0] * 3, **ask) + seeds("converged", "base", [70.0] * 3, **ask)
    rows += seeds("mixed", "vision_r1_object", [68.0, 69.0, 70.0], **ask)
    rows += seeds("converged", "vision_r1_object", [68.9, 69.0, 69.1], **ask)
    table = verdicts(rows, None, PAPER)
    assert by_goal(table, "mixed", "questions")["holds"] is True  # -1 ± 2.48
    assert by_goal(table, "converged", "questions")["holds"] is False  # -1 ± 0.25
    shown = by_goal(show_verdicts(table), "converged", "questions")
    assert shown["measured"] == "-1.0 [-1.2, -0.8]" and shown["wanted"] == "not below 0"


def test_without_any_rows_nothing_is_claimed():
    assert {r["verdict"] for r in verdicts([], None, PAPER)} == {"no result"} and main_table([], PAPER) == []
    assert best_credit(Results([]), "mixed") is None
    assert to_markdown(show_verdicts(verdicts([], None, PAPER))).count("no result") == 17


def test_a_cell_is_mean_interval_and_ratio_in_every_print():
    table = main_table(seeds("mixed", "base", [20.0] * 3) + seeds("mixed", "vision_r1", [28.0, 30.0, 32.0]), PAPER)
    assert "| mixed | Vision-R1 | 3 | 30.0 ± 5.0 (×1.50) |" in to_markdown(table)
    assert "*paper: Qwen2.5-VL-7B, Vision-R1*" in to_markdown(table) and "*26.6 (×1.50)*" in to_markdown(table)
    assert '<td class="n">30.0 ± 5.0 (×1.50)</td>' in to_html(table) and '<tr class="paper">' in to_html(table)
    assert r"30.0 $\pm$ 5.0 ($\times$1.50)" in to_latex(table) and r"questions, \%" in to_latex(table)
    back = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert float(back[2]["in_domain_AP_low"]) == pytest.approx(25.032, abs=1e-3) and back[0]["in_domain_AP_low"] == ""
    widths = {line.count("|") for line in to_markdown(table).splitlines()}
    assert len(widths) == 1


def test_foreign_text_is_escaped_in_every_print():
    table = [{"name": "<script>alert(1)</script>|a_b & 50%", "AP": 1.0}]
    assert "<script>" not in to_html(table) and "&lt;script&gt;" in to_html(table)
    assert "<script>" not in to_markdown(table) and r"\|a_b" in to_markdown(table)
    assert r"a\_b \& 50\%" in to_latex(table)


def test_ablations_from_wide_and_long_rows():
    wide = [{"name": "all", "seed": s, "AP": v} for s, v in enumerate((10.0, 12.0, 14.0))] + [
        {"name": "none", "seed": 0, "AP": 3.0}
    ]
    table = ablation_table(wide)
    assert [(r["name"], r["seeds"], r["AP"]) for r in table] == [("all", 3, 12.0), ("none", 1, 3.0)]
    assert table[0]["AP_low"] == pytest.approx(7.032, abs=1e-3) and table[1]["AP_low"] is None
    long = [{"ablation": r["name"], "seed": r["seed"], "suite": "in_domain", "metric": "AP", "value": r["AP"]} for r in wide]
    assert ablation_table([*long, {**long[0], "suite": "unseen4", "value": 99.0}]) == table


def test_an_ablation_is_compared_seed_by_seed_and_with_the_paper_s_own_change():
    values = {"base": (40.0,), "all_rewards": (60.0, 70.0, 80.0), "step_1": (61.0, 71.5, 80.5), "mine": (59.0, 69.0)}
    rows = [{"name": n, "seed": s, "AP": v} for n, row in values.items() for s, v in enumerate(row)]
    base, step_1, mine = ablation_changes(rows, read_paper(), metrics=("AP",))
    assert (step_1["AP"], step_1["seeds"]) == (1.0, 3)
    half = 4.303 * 0.5 / 3**0.5  # changes 1, 1.5, 0.5: by hand, deviation 0.5, t of two degrees of freedom
    assert (step_1["AP_low"], step_1["AP_high"]) == (pytest.approx(1 - half, abs=1e-3), pytest.approx(1 + half, abs=1e-3))
    assert step_1["paper AP"] == pytest.approx(26.6 - 23.3) and mine["paper AP"] is None
    assert (mine["AP"], mine["seeds"]) == (-1.0, 2) and (base["AP"], base["seeds"]) == (-30.0, 3)
    with pytest.raises(ValueError, match="'none' is not among the ablations: base, all_rewards"):
        ablation_changes(rows, read_paper(), reference="none")


def test_errors_are_counted_per_hundred_objects():
    kinds = {"missed": (10, 30), "duplicate": (2, 4)}
    rows = [
        {"policy": "ablation-strict", "seed": s, "kind": k, "count": c[s], "objects": 200, "detections": 180 + 20 * s}
        for k, c in kinds.items()
        for s in (0, 1)
    ]
    assert error_table(rows) == [{"name": "strict", "boxes": 95.0, "missed": 10.0, "duplicate": 1.5}]


def test_names_are_for_people():
    assert policy_name("vision_r1_object") == "Vision-R1, object credit"
    assert policy_name("no_recall") == "no recall" and set(PAPER_MODELS) == {"mixed", "converged"}
