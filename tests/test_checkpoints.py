"""Only a whole checkpoint is resumed from: whatever a kill, a full disk or a bad sector did to the newest."""

import json

import pytest

from vr1kit.safekeeping.checkpoints import SEAL, find_last, number_of, seal


def write(folder, number, sealed=True):
    checkpoint = folder / f"checkpoint-{number}"
    (checkpoint / "inner").mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(bytes([number]) * 100)
    (checkpoint / "inner" / "state.json").write_text("{}")
    if sealed:
        seal(checkpoint)
    return checkpoint


def test_sealing_keeps_the_newest_alone(tmp_path):
    write(tmp_path, 9)
    (tmp_path / "model-beginner").mkdir()
    newest = write(tmp_path, 10)
    assert find_last(tmp_path) == newest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "model-beginner"]
    assert set(json.loads((newest / SEAL).read_text())) == {"model.safetensors", "inner/state.json"}


def test_an_unsealed_one_is_passed_over_without_a_word(tmp_path, recwarn):
    whole = write(tmp_path, 9)
    write(tmp_path, 10, sealed=False)
    assert find_last(tmp_path) == whole
    assert not recwarn.list and not (tmp_path / "checkpoint-10").exists()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda c: (c / "model.safetensors").write_bytes(b"\x09" * 99 + b"\0"), "model.safetensors was altered"),
        (lambda c: (c / "model.safetensors").write_bytes(b"\x09" * 99), "model.safetensors was altered"),
        (lambda c: (c / "inner" / "state.json").unlink(), "inner/state.json is missing"),
        (lambda c: (c / SEAL).write_text('{"model.sa'), "sealed.json is missing or damaged"),
        (lambda c: (c / SEAL).write_text("[1]"), "sealed.json is missing or damaged"),
        (lambda c: (c / SEAL).write_text('{"model.safetensors": 3}'), "sealed.json is missing or damaged"),
    ],
)
def test_a_damaged_one_is_named_and_not_used(tmp_path, damage, fault):
    damage(write(tmp_path, 9))
    with pytest.warns(UserWarning, match=f"checkpoint-9 is damaged .{fault}"):
        assert find_last(tmp_path) is None


def test_numbers_count_not_letters(tmp_path):
    assert find_last(tmp_path) is None and find_last(tmp_path / "nowhere") is None
    (tmp_path / "checkpoint-x").mkdir()
    assert find_last(tmp_path) is None
    assert [number_of(None), number_of(tmp_path / "checkpoint-50"), number_of(tmp_path / "checkpoint-x")] == [0, 50, -1]
