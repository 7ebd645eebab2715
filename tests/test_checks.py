"""Refusals: one line, before any work, with the number to change."""

from dataclasses import replace

import pytest

from vr1kit.scale.checks import (
    Refused,
    check_batch,
    check_lengths,
    check_memory,
    check_packages,
    check_served_pixels,
    check_shards,
    check_versions,
    check_way,
)
from vr1kit.scale.model_profiles import MODEL_PROFILES, get_model_profile
from vr1kit.scale.plan import GPUS, estimate
from vr1kit.scale.shapes import build_config, count_parameters
from vr1kit.scale.ways import Way
from vr1kit.settings import Execution, GrpoSettings

SETTINGS = GrpoSettings(prompts_per_step=6, num_generations=4, max_completion_length=10)


def refusal(check, *arguments) -> str:
    with pytest.raises(Refused) as error:
        check(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_batches():
    check_batch(SETTINGS, 3)
    assert "6 prompts x 4 generations = 24 rows" in (said := refusal(check_batch, SETTINGS, 5)) and "multiple of 5" in said
    said = refusal(check_batch, replace(SETTINGS, execution=Execution(accumulation=8)), 4)
    assert "= 32" in said and "multiple of 8" in said
    assert "one process" in refusal(check_batch, replace(SETTINGS, credit="object"), 4)
    check_batch(SETTINGS, 4)  # whole groups are not needed otherwise


def test_lengths_by_hand():
    words = lambda text: len(text.split())  # noqa: E731
    assert check_lengths(SETTINGS, ["a b c", "a b c d e f g h i"], {"q w": 7}, words, 19) == (9, 10)
    assert "has 11 tokens" in (said := refusal(check_lengths, SETTINGS, ["a b c d e f g h i j"], {"q": 1}, words, 99))
    assert "set it to 11 or more" in said
    said = refusal(check_lengths, SETTINGS, ["a"], {"q w": 7}, words, 18)
    assert "9 tokens" in said and "at most 9" in said
    assert "lower max_pixels" in refusal(check_lengths, SETTINGS, ["a b c"], {"q w": 16}, words, 20)


def test_a_gpu_that_is_too_small_is_told_before_loading():
    p = get_model_profile("qwen2.5-vl-7b")
    config = build_config(p.shape)
    plan = estimate(config, count_parameters(config), p.settings, p.lengths, dtype=p.dtype, gpu=GPUS["rtx4090"])
    said = refusal(check_memory, plan, GPUS["rtx4090"], p.name)
    assert "this one has 24" in said and "optimizer" in said and "lora_rank" in said


def test_packages_that_a_field_needs(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_packages(Execution())
    assert "trackers asks for wandb" in refusal(check_packages, Execution(trackers=("wandb",)))
    assert "pip install vllm" in refusal(check_packages, Execution(vllm="colocate"))


def test_vllm_must_see_the_pictures_of_the_loss():
    served = Execution(vllm="colocate")
    check_served_pixels(served, 401408, 401408, "m")
    check_served_pixels(Execution(), 12845056, 401408, "m")
    said = refusal(check_served_pixels, served, 12845056, 401408, "m")
    assert "12,845,056 px, as m says, and training 401,408" in said and "401408 as size.longest_edge" in said


def test_accelerate_must_compute_as_the_settings_say(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    half, full = Execution(precision="bfloat16"), Execution()
    for way in (Way(), Way("fsdp2", "bf16"), Way("none", "no"), Way("zero3", "bf16")):
        check_way(way, half)
    check_way(Way("zero2", "no"), full)
    said = refusal(check_way, Way("fsdp2", "bf16"), full)
    assert "mixed_precision bf16, execution.precision is float32" in said and "-p execution.precision bfloat16" in said
    assert "-p execution.precision float32, or mixed_precision 'bf16'" in refusal(check_way, Way("zero2", "no"), half)
    assert said.count("mixed_precision") == 2 and "take mixed_precision 'bf16'" in refusal(check_way, Way("none", "fp16"), half)


def test_deepspeed_must_be_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_way(Way("fsdp2"), Execution())
    assert "pip install deepspeed, or take configs/accelerate/fsdp2.yaml" in refusal(check_way, Way("zero2"), Execution())


def test_shards_go_on_as_they_were_written(tmp_path):
    check_shards(tmp_path, Way(), 3)
    assert "whole weights, and this training has FSDP2" in refusal(check_shards, tmp_path, Way("fsdp2"), 2)
    (tmp_path / "pytorch_model_fsdp_0").mkdir()
    check_shards(tmp_path, Way("fsdp2"), 3)
    assert "with FSDP2, and this training has whole weights" in refusal(check_shards, tmp_path, Way(), 1)
    (tmp_path / "global_step3").mkdir()
    for rank in range(2):
        (tmp_path / "global_step3" / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    for way in (Way("zero2"), Way("zero")):
        check_shards(tmp_path, way, 2)
    assert (
        "written by 2 processes of DeepSpeed's" in (said := refusal(check_shards, tmp_path, Way("zero2"), 4))
        and "start 2" in said
    )
    (tmp_path / "global_step3" / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    assert "with ZeRO-3, and this training has ZeRO-2" in refusal(check_shards, tmp_path, Way("zero2"), 2)
    assert "with ZeRO-3, and this training has whole weights" in refusal(check_shards, tmp_path, Way(), 1)


def test_versions():
    check_versions({"torch": "1"}, {"torch": "1", "trl": "2"}, "here")
    assert "trl 1 then, 2 now" in refusal(check_versions, {"trl": "1"}, {"trl": "2"}, "here")


@pytest.mark.parametrize("name", [n for n, p in MODEL_PROFILES.items() if p.shape])
def test_every_profile_fits_its_hardware_and_says_what_it_is(name):
    p = get_model_profile(name)
    config = build_config(p.shape)
    plan = estimate(
        config, count_parameters(config), p.settings, p.lengths, dtype=p.dtype, quantize=p.quantize, sharding=p.sharding,
        processes=p.gpus, gpu=GPUS[p.gpu],
    )  # fmt: skip
    check_memory(plan, GPUS[p.gpu], name)
    check_batch(p.settings, p.gpus)
    assert p.settings.steps * plan.step_seconds / 3600 == pytest.approx(p.hours, rel=0.1)
    assert p.aims_at and name in p.command and p.lengths.completion == p.settings.max_completion_length


def test_the_papers_numbers():
    s = get_model_profile("qwen2.5-vl-7b").settings
    assert (s.prompts_per_step, s.num_generations, s.beta, s.learning_rate) == (16, 4, 0.2, 1e-6)


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="model profile 'x' is not known; take one of: tiny"):
        get_model_profile("x")
