"""Findings: what reading an answer has come upon so far, in order of the text, and the outcome they make (see `completions`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vr1kit.parsing.detections import (
    ANSWER_REASONS,
    BOX_KEYS,
    Detection,
    ItemSpans,
    ParsedCompletion,
    Spans,
    content_fault,
    content_holds,
    stack_boxes,
)

_FIELDS = {*BOX_KEYS, "label"}
_NUMBERS = {int, float}  # and not bool, which is an int to isinstance


Mark = tuple[int, int]  # how much had been found, and kept, when an object began


class Findings:
    """Kept items, reasons of dropped ones, and reasons of the answer: `flaws`, or in the list where they may yet be dropped."""

    def __init__(self, size: tuple[float, float]) -> None:
        self.size = size
        self.flaws: set[str] = set()
        self.found: list[Detection | str] = []
        self.kept = 0  # how many of found are kept items
        self.dropped = 0  # how many were, until the object around them turned out to be a detection
        self.spans: list[ItemSpans] = []  # of these, if the reader knows them

    def mark(self) -> Mark:
        return len(self.found), self.kept

    def end_object(self, mark: Mark, fault: str | None, has_fields: bool) -> None:
        """An object that began at `mark`, with a label or box of its own or not, is a detection, a wrapper of some, or neither."""
        found, kept = mark
        if fault and (self.kept > kept if has_fields else len(self.found) > found):
            self.found.append("nested")  # not a detection, but there are some in it
            return
        del self.found[found:], self.spans[kept:]  # within a detection, or within nothing: extra values
        self.dropped += self.kept - kept
        self.kept = kept
        if fault:
            self.found.append(fault)

    def keep(self, key: str, box: Sequence[float], label: str, spans: ItemSpans | None = None) -> None:
        """Add a detection of the template, if its content holds."""
        if key != BOX_KEYS[0]:
            self.found.append("box_key")
        x1, y1, x2, y2 = box
        if not (0 <= x1 < x2 <= self.size[0] and 0 <= y1 < y2 <= self.size[1]):
            self.found.append(content_fault(box, self.size))
            return
        self.found.append(Detection(box, label))
        self.kept += 1
        if spans is not None:
            self.spans.append(spans)

    def keep_all(self, items: Sequence[Detection]) -> bool:
        """Add detections, if the content of each holds."""
        if not content_holds([item.bbox_2d for item in items], self.size):
            return False
        self.found += items
        self.kept += len(items)
        return True

    def add_decoded(self, value: list | dict, in_object: bool = False) -> None:
        """Add what there is in JSON."""
        if type(value) is list:
            for entry in value:
                if type(entry) in (list, dict):
                    if type(entry) is list and not in_object:
                        self.flaws.add("nested")
                    self.add_decoded(entry, in_object)
                elif not in_object:
                    self.found.append("not_object")
        elif fault := find_fault(value):
            mark = self.mark()
            for entry in value.values():
                if type(entry) in (list, dict):
                    self.add_decoded(entry, in_object=True)
            self.end_object(mark, fault, not _FIELDS.isdisjoint(value))
        else:
            self.add_detection(value)  # what else is in it are extra values

    def add_detection(self, item: dict) -> None:
        key = find_box_key(item)
        self.keep(key, item[key], item["label"])

    def add_items(self, items: Sequence[Detection | dict | None], start: int) -> int:
        """Add objects of a run from `start` on, up to one that its tokens must be read for. Returns where that is."""
        width, height = self.size
        for index in range(start, len(items)):
            item = items[index]
            if type(item) is Detection:  # as `keep`, which takes longer
                x1, y1, x2, y2 = item.bbox_2d
                if 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height:
                    self.found.append(item)
                    self.kept += 1
                else:
                    self.found.append(content_fault(item.bbox_2d, self.size))
            elif item is None:
                return index
            elif (fault := find_fault(item)) is None:
                self.add_detection(item)
            elif dict in map(type, item.values()) and _may_hold_detections(item):
                return index
            else:
                self.found.append(fault)
        return len(items)

    def add_whole(self, items: Sequence[Detection | dict | None]) -> None:
        """Add objects of a run, but those that tokens must be read for."""
        whole, at = [item for item in items if item is not None], -1
        while at < len(whole):
            at = self.add_items(whole, at + 1)

    def to_outcome(self, text: str, spans: Spans) -> ParsedCompletion:
        kept = [entry for entry in self.found if type(entry) is not str]
        codes = [entry for entry in self.found if type(entry) is str]
        flaws = self.flaws.union(codes)
        reasons = [code for code in ANSWER_REASONS if code in flaws] + [code for code in codes if code not in ANSWER_REASONS]
        boxes_xyxy = stack_boxes([item.bbox_2d for item in kept])  # (P, 4)
        return ParsedCompletion(text, self.size, boxes_xyxy, tuple([item.label for item in kept]), tuple(reasons), spans)


def find_box_key(item: Mapping) -> str:
    """The key whose box counts; "" without one."""
    for key in BOX_KEYS:
        if key in item:
            return key
    return ""


def find_fault(item: dict) -> str | None:
    """Why a decoded object is not a detection of the template, or None."""
    if not (key := find_box_key(item)):
        return "no_box"
    if type(item.get("label")) is not str:
        return "label_not_string" if "label" in item else "no_label"
    box = item[key]
    if type(box) is not list or len(box) != 4:
        return "box_length"
    return None if _NUMBERS.issuperset(map(type, box)) else "box_type"


def _may_hold_detections(item: dict) -> bool:
    """Whether an object that is no detection itself could be a wrapper of some."""
    inner = [value for value in item.values() if type(value) is dict]
    return _FIELDS.isdisjoint(item) or not all(_FIELDS.isdisjoint(value) for value in inner)
