import csv
import json

import numpy as np
import pytest

from vr1kit.completions import parse_completion
from vr1kit.data import read_coco
from vr1kit.export import answers_in_pixels, write_lmms_eval, write_vlmevalkit
from vr1kit.measures.protocols import merge_answers, plan_queries
from vr1kit.prompts import write_answer


@pytest.mark.parametrize("protocol", ["present", "all"])
def test_answers_in_pixels_hold_what_was_found_picture_by_picture(toybox_folder, random_policy, protocol):
    data = read_coco(toybox_folder / "annotations.json")
    plan = plan_queries(data, protocol)
    texts = []
    for q in plan.queries:
        keep = [k for k, label in enumerate(q.record.labels) if label in q.categories]
        boxes, _ = random_policy.write_boxes(q.record.boxes_xyxy_px[keep], q.record.width, q.record.height)
        texts.append("Sure! " + write_answer(boxes, [q.record.labels[k] for k in keep]))
    found = answers_in_pixels(random_policy, plan, texts)
    assert list(found) == [r.image_id for r in data.records]
    detections, _ = merge_answers(random_policy, plan, texts)
    for record in data.records:
        parsed = parse_completion(found[record.image_id], (record.width, record.height))
        assert parsed.dual_format == 1.0  # prose and the policy's own coordinates are gone
        mine = [d for d in detections if d["image_id"] == record.image_id]
        assert [data.categories[label] for label in parsed.labels] == [d["category_id"] for d in mine]
        sides = parsed.boxes_xyxy[:, 2:] - parsed.boxes_xyxy[:, :2]
        assert np.hstack([parsed.boxes_xyxy[:, :2], sides]) == pytest.approx(np.array([d["bbox"] for d in mine]).reshape(-1, 4))
    empty = plan_queries(data, protocol)
    assert set(answers_in_pixels(random_policy, empty, ["no"] * len(empty.queries)).values()) == {"[]"}


def test_a_log_is_read_the_way_lmms_eval_reads_it(tmp_path):
    path = write_lmms_eval(tmp_path / "logs" / "odinw13.json", "odinw13", "ours", {0: "[]", np.int64(7): '[{"a": "é"}]'})
    log = json.loads(path.read_text(encoding="utf-8"))
    assert {row["doc_id"]: row["resps"][0][0] for row in log["logs"]} == {0: "[]", 7: '[{"a": "é"}]'}
    assert log["model_configs"]["task"] == "odinw13" and log["args"] == {"model": "ours", "model_args": "", "limit": None}
    with pytest.raises(ValueError, match="end in .json"):
        write_lmms_eval(tmp_path / "odinw13.jsonl", "odinw13", "ours", {})
    for wrong in ("7", 7.0, True):
        with pytest.raises(ValueError, match="number of a row"):
            write_lmms_eval(tmp_path / "a.json", "odinw13", "ours", {wrong: "[]"})


def test_predictions_are_read_the_way_vlmevalkit_reads_them(tmp_path):
    pandas = pytest.importorskip("pandas")
    answers = {3: "yes", 5: 'two\nlines, "quoted"\tand a tab', 9: "é"}
    path = write_vlmevalkit(tmp_path, "Qwen2.5-VL-7B-Instruct", "ChartQA_TEST", answers)
    assert path.relative_to(tmp_path).as_posix() == (
        "Qwen2.5-VL-7B-Instruct/T00000000_Gvr1kit/Qwen2.5-VL-7B-Instruct_ChartQA_TEST.tsv"
    )
    table = pandas.read_csv(path, sep="\t")
    assert dict(zip(table["index"], table["prediction"], strict=True)) == answers
    with open(path, encoding="utf-8", newline="") as file:
        assert next(csv.reader(file, delimiter="\t")) == ["index", "prediction"]
