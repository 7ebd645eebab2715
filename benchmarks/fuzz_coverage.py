"""Coverage-guided fuzzing of everything that reads what others wrote: libFuzzer looks for inputs that reach new code.

    pip install atheris                                              # not among the pinned dependencies
    python benchmarks/fuzz_coverage.py parser -max_total_time=60     # or coco, stream, yolo, voc, manifest, answers, configuration
    python benchmarks/fuzz_coverage.py coco crash-0123abc            # one input again

A target may refuse its input by the kit's own errors, in one line. Anything else is a crash, and its input is kept.
`benchmarks/fuzz.py` checks what the parser answers; this one looks only for crashes and hangs. What follows the target goes
to libFuzzer (`-help=1`).
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vr1kit"]):
    from vr1kit.commands.arguments import parse_value
    from vr1kit.completions import parse_completion
    from vr1kit.coordinates import CoordinateSpace
    from vr1kit.formats.coco import read_coco
    from vr1kit.formats.coco_stream import stream_coco
    from vr1kit.formats.voc import _read_xml
    from vr1kit.formats.yolo import _read_label
    from vr1kit.records import DataError
    from vr1kit.safekeeping.files import RunError
    from vr1kit.safekeeping.manifests import read_manifest
    from vr1kit.scale.model_runs import change_settings
    from vr1kit.scoring import read_answers
    from vr1kit.settings import GrpoSettings

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
STARTS = {
    "configuration": 'schedule {"stages": [{"name": "a", "until": 1.0, "criteria": {"xi0": 0.5}}]}',
    "parser": '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]\n```',
    "coco": '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], "annotations": [{"id": 1, "image_id": 1, '
    '"category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}], "categories": [{"id": 1, "name": "cat"}]}',
    "yolo": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.9 0.1 0.5 0.9\n",
    "voc": "<annotation><size><width>9</width><height>9</height></size><object><name>cat</name><bndbox><xmin>1</xmin>"
    "<ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>",
    "manifest": '{"step": "a", "fingerprint": "f", "config": {}, "inputs": {"b": {"hash": "c"}}, "code_of": null, "code": {}, '
    '"artefacts": {"x.json": {"sha256": "0", "size": 1}}}',
    "answers": '{"image_id": 1, "completion": "[{\\"bbox_2d\\": [1, 2, 3, 4], \\"label\\": \\"cat\\"}]"}\n',
}

STARTS["stream"] = STARTS["coco"]


def write(name: str, data: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def try_parser(data: bytes) -> None:
    parse_completion(data.decode("utf-8", "surrogateescape"), (100, 80))


def try_coco(data: bytes) -> None:
    read_coco(write("annotations.json", data), on_error="skip")


def try_stream(data: bytes) -> None:
    stream_coco(write("annotations.json", data), on_error="skip").to_set()


def try_yolo(data: bytes) -> None:
    _read_label(write("a.txt", data), (100, 80), {0: "cat", 1: "dog"}, False)


def try_voc(data: bytes) -> None:
    _read_xml(write("a.xml", data))


def try_manifest(data: bytes) -> None:
    write("manifest.json", data)
    read_manifest(FOLDER)


def try_answers(data: bytes) -> None:
    data_set = read_coco(FOLDER / "truth.json")
    list(read_answers(write("answers.jsonl", data), data_set, CoordinateSpace.PIXELS))


def try_configuration(data: bytes) -> None:
    name, _, text = data.decode("utf-8", "surrogateescape").partition(" ")
    change_settings(GrpoSettings(), {name: parse_value(text)})


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in STARTS:
        sys.exit(f"name one of {', '.join(STARTS)}: see the head of {Path(__file__).name}")
    target = globals()[f"try_{sys.argv[1]}"]
    write("truth.json", STARTS["coco"].encode())

    def try_one(data: bytes) -> None:
        try:
            target(data)
        except (DataError, RunError, ValueError) as error:
            if type(error) not in (DataError, RunError, ValueError) and not isinstance(error, DataError | RunError):
                raise  # UnicodeDecodeError and its like are not the kit's own
            if "\n" in str(error):
                raise

    seeds = FOLDER / "seeds"
    seeds.mkdir()
    (seeds / "whole").write_text(STARTS[sys.argv[1]])
    atheris.Setup(
        [sys.argv[0], *sys.argv[2:], *([] if any(not w.startswith("-") for w in sys.argv[2:]) else [str(seeds)])], try_one
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
