import numpy as np
import pytest

from vr1kit.completions import parse_completion
from vr1kit.measures.confidence import (
    calibrate,
    constant_scores,
    token_scores,
    tokens_of,
    vote_scores,
)
from vr1kit.tokens import token_spans

SIZE = (100, 100)
PIECES = ['[{"bbox_2d": [', "10", ", 10", ", 30", ", 30", '], "label": "cat', '"}, {"bbox_2d": [', "5", ", 6", ", 7", ", 8",
          '], "label": "dog', '"}]', ""]  # fmt: skip


def decode_pieces(ids):
    return "".join(PIECES[i] for i in ids)


def test_by_hand_min_mean_and_product_over_numbers_and_label():
    text, spans = token_spans(range(len(PIECES)), decode_pieces)
    p = np.full(len(PIECES), 1e-9)  # structure: must not count
    p[1:6] = 0.5, 0.8, 1.0, 1.0, 0.25  # four numbers, and the token that ends in cat
    p[7:12] = 0.9
    parsed = parse_completion(text, SIZE)
    assert parsed.labels == ("cat", "dog")
    assert token_scores(parsed, spans, np.log(p), "min") == pytest.approx([0.25, 0.9])
    assert token_scores(parsed, spans, np.log(p), "product") == pytest.approx([0.5 * 0.8 * 0.25, 0.9**5])
    assert token_scores(parsed, spans, np.log(p), "mean") == pytest.approx([(0.5 * 0.8 * 0.25) ** 0.2, 0.9])
    assert token_scores(parsed, spans, np.log(p)) == pytest.approx(token_scores(parsed, spans, np.log(p), "mean"))
    assert constant_scores(parsed).tolist() == [0.99, 0.99]


def test_a_token_counts_once_and_quotes_do_not_count():
    text = '[{"label": "cat", "bbox_2d": [1, 2, 3, 4]}]'
    spans = np.array([[k, k + 1] for k in range(len(text))])  # a token a character
    item = parse_completion(text, SIZE).spans[0]
    assert "".join(np.array(list(text))[tokens_of(item, text, spans)]) == "cat1234"
    one = np.array([[0, len(text)]])  # one token writes everything
    assert token_scores(parse_completion(text, SIZE), one, np.log([0.5]), "product") == pytest.approx([0.5])


def test_boxes_of_a_malformed_answer_have_scores_too():
    text = "Sure! [{'label': 'cat', 'bbox_2d': [1, 2, 30, 40]}, {'label': '', 'bbox_2d': [1, 2, 3, 4], oops"
    spans = np.array([[k, k + 1] for k in range(len(text))])
    parsed = parse_completion(text, SIZE)
    assert parsed.labels[0] == "cat" and parsed.dual_format == 0
    scores = token_scores(parsed, spans, np.full(len(text), np.log(0.5)), "product")
    assert scores[0] == pytest.approx(0.5 ** len("cat123040")) and len(scores) == len(parsed.labels)
    assert token_scores(parse_completion("nothing", SIZE), spans[:7], np.zeros(7)).shape == (0,)


def test_bad_probabilities_are_refused():
    text, spans = token_spans(range(len(PIECES)), decode_pieces)
    parsed = parse_completion(text, SIZE)
    with pytest.raises(ValueError, match="14 tokens have characters and 3"):
        token_scores(parsed, spans, [0.0] * 3)
    with pytest.raises(ValueError, match="at most 0"):
        token_scores(parsed, spans, [float("nan")] * len(PIECES))
    with pytest.raises(ValueError, match="unknown pool 'max'; known are min, mean, product"):
        token_scores(parsed, spans, [0.0] * len(PIECES), "max")


def test_by_hand_votes_of_three_samples():
    boxes, labels = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], float), ["cat", "dog"]
    samples = [
        (boxes[:1], ["cat"]),  # the cat
        (np.array([[0, 0, 10, 5.0], [50, 50, 60, 54.9]]), ["cat", "dog"]),  # IoU 0.5 and just below
        (boxes[::-1], ["cat", "dog"]),  # both boxes, labels swapped
    ]
    assert vote_scores(boxes, labels, samples) == pytest.approx([2 / 3, 0])
    assert vote_scores(boxes, labels, [(np.zeros((0, 4)), [])]).tolist() == [0, 0]
    assert vote_scores(np.zeros((0, 4)), [], samples).shape == (0,)
    with pytest.raises(ValueError, match="at least one"):
        vote_scores(boxes, labels, [])


def test_by_hand_calibration():
    """Bins of a half: scores 0.2 and 0.4, one hit: |0.5 - 0.3|; scores 0.9 and 1.0, both hits: |1 - 0.95|."""
    c = calibrate([0.2, 0.4, 0.9, 1.0], [True, False, True, True], bins=2)
    assert c.count.tolist() == [2, 2]
    assert c.confidence == pytest.approx([0.3, 0.95]) and c.accuracy == pytest.approx([0.5, 1.0])
    assert c.error == pytest.approx(0.5 * 0.2 + 0.5 * 0.05)
    assert c.rows()[0] == {"low": 0.0, "high": 0.5, "boxes": 2, "confidence": pytest.approx(0.3), "accuracy": 0.5}


def test_calibration_at_the_edges():
    constant = calibrate([0.99] * 4, [True, False, False, False])
    assert constant.error == pytest.approx(0.99 - 0.25) and constant.count[-1] == 4
    assert constant.rows()[0]["accuracy"] is None
    assert calibrate([0.0, 0.1, 0.10001], [0, 0, 0]).count[:2].tolist() == [2, 1]  # (l, u], the first with 0
    assert np.isnan(calibrate([], []).error)
    for scores in ([float("nan")], [1.2], [-0.1]):
        with pytest.raises(ValueError, match="from 0 to 1"):
            calibrate(scores, [True])
    with pytest.raises(ValueError, match="one length"):
        calibrate([0.5], [True, False])


def test_calibrated_scores_have_an_error_near_0():
    rng = np.random.default_rng(0)
    scores = rng.random(20000)
    assert calibrate(scores, rng.random(20000) < scores).error < 0.02
