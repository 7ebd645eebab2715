import numpy as np
import pytest
import torch

from vr1kit.asking import answer_queries, ask_plan, detect, score_answers
from vr1kit.data import read_coco
from vr1kit.evaluate import Suites, answer_greedily, evaluate_policy, to_detections
from vr1kit.measures.confidence import token_scores
from vr1kit.measures.outcomes import find_outcomes
from vr1kit.measures.protocols import ProtocolError, plan_queries, read_answer
from vr1kit.scenes import write_scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asking") / "road"
    return read_coco(write_scenes(folder, "road", range(4)))


@pytest.fixture(scope="module")
def mixed():
    """A base policy that ships: its answers have boxes."""
    from vr1kit.models import load_policy

    return load_policy("mixed")


@pytest.fixture(scope="module")
def questions(toybox_folder, data):
    """Prompts of several lengths: batches of them are padded."""
    toybox = read_coco(toybox_folder / "annotations.json")
    queries = [
        *plan_queries(toybox, "all").queries[:3],
        *plan_queries(data, "all").queries,
        *plan_queries(data, "present").queries[:4],
    ]
    assert len({q.prompt for q in queries}) > 3
    return [str(q.record.image_path) for q in queries], [q.prompt for q in queries]


def test_answers_do_not_depend_on_batch_padding_or_order(random_policy, questions):
    paths, prompts = questions
    alone = [row[0] for row in answer_queries(random_policy, paths, prompts, batch=1, max_new_tokens=12)]
    for batch in (3, 64):
        together = [row[0] for row in answer_queries(random_policy, paths, prompts, batch=batch, max_new_tokens=12)]
        assert [a.text for a in together] == [a.text for a in alone]
        for a, b in zip(together, alone, strict=True):
            assert np.abs(a.logps - b.logps).max() < 1e-4
    back = answer_queries(random_policy, paths[::-1], prompts[::-1], batch=5, max_new_tokens=12)[::-1]
    assert [row[0].text for row in back] == [a.text for a in alone]
    assert len({a.text for a in alone}) > 3, "answers that are all alike would prove nothing"
    assert [a.text for a in alone] == answer_greedily(random_policy, paths, prompts, batch=4, max_new_tokens=12)


def test_ap_does_not_depend_on_the_batch(mixed, data):
    rows = [evaluate_policy(mixed, Suites({"shifted13": [data]}, []), batch=batch) for batch in (1, 3, 64)]
    assert rows[0] == rows[1] == rows[2]
    assert any(row["value"] > 0 for row in rows[0])
    scored = [detect(mixed, data, score="token_prob", batch=batch).detections for batch in (1, 64)]
    assert find_outcomes(data.annotations, scored[0]).metrics() == find_outcomes(data.annotations, scored[1]).metrics()


def test_by_default_the_detections_are_those_of_the_studys_evaluation(mixed, data):
    detected = detect(mixed, data)
    assert (detected.plan.protocol, detected.score) == ("all", "constant")
    assert detected.detections == to_detections(mixed, data, detected.texts)[0] and detected.detections


def test_token_probabilities_are_the_models_own(mixed, data):
    """Product over all tokens of an answer = probability of the answer: the scores are parts of it."""
    plan = plan_queries(data, "all")
    answers = [row[0] for row in ask_plan(mixed, plan)]
    product, mean, least = (score_answers(mixed, plan, answers, "token_prob", pool) for pool in ("product", "mean", "min"))
    for answer, low, middle, high in zip(answers, product, least, mean, strict=True):
        assert np.exp(answer.logps.sum()) <= np.prod(low) + 1e-12
        assert ((low <= middle + 1e-12) & (middle <= high + 1e-12) & (high <= 1)).all()
    parsed = read_answer(mixed, plan.queries[0].record, answers[0].text)
    assert (token_scores(parsed, answers[0].spans, answers[0].logps, "min") == least[0]).all()
    assert len(np.concatenate(product)) > 4
    assert detect(mixed, data, "present", "token_prob", "min").score == "token_prob min"


def test_votes_repeat_and_leave_torchs_generator_alone(mixed, data):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = detect(mixed, data, score="vote", samples=3, seed=1)
    assert (torch.get_rng_state() == before).all()
    torch.manual_seed(6)
    assert detect(mixed, data, score="vote", samples=3, seed=1).detections == one.detections
    assert {round(3 * d["score"], 9) for d in one.detections} <= {0, 1, 2, 3} and one.score == "vote of 3"
    drawn = ask_plan(mixed, plan_queries(data, "all"), samples=3, seed=1)
    assert [len(row) for row in drawn] == [3] * len(data.records)


def test_wrong_names_are_refused_before_the_work(data):
    for wrong in ({"score": "logprob"}, {"score": "token_prob", "pool": "max"}):
        with pytest.raises(ValueError, match="scores are constant, token_prob, vote"):
            detect(None, data, **wrong)
    with pytest.raises(ProtocolError):
        detect(None, data, "positive")
    with pytest.raises(ValueError, match="samples for each of 1 answers, got 0"):
        score_answers(None, None, [None], "vote")
