"""How a training is shared, from accelerate's file and from the environment of the processes that it starts."""

from pathlib import Path

import pytest

from vr1kit.scale.ways import Way, read_way

CONFIGURATIONS = Path(__file__).parents[1] / "configs" / "accelerate"


def test_the_shipped_files():
    found = {file.stem: read_way(file, {}) for file in CONFIGURATIONS.glob("*.yaml")}
    one_machine = {"ddp": "none", "fsdp2": "fsdp2", "zero2": "zero2", "zero3": "zero3"}
    assert found == {k: Way(v, "bf16") for k, v in one_machine.items()} | {"multi_node": Way("fsdp2", "bf16", 2)}


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2", "zero3"])
def test_the_environment_that_accelerate_makes_says_what_its_file_says(name):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    file = CONFIGURATIONS / f"{name}.yaml"
    arguments = launch_command_parser().parse_args(["--config_file", str(file), "--num_processes", "2", "-m", "vr1kit.cli"])
    arguments, _, _ = _validate_launch_command(arguments)
    environment = prepare_multi_gpu_env(arguments)
    if arguments.use_deepspeed:  # from prepare_deepspeed_cmd_env, which only runs where deepspeed is installed
        environment |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(arguments.zero_stage)}
    assert read_way(None, environment) == read_way(file, {})


def test_no_file_and_no_launcher_is_whole_weights():
    assert read_way(None, {}) == Way("none", "", 1)
    assert read_way(None, {"ACCELERATE_USE_DEEPSPEED": "true"}).sharding == "zero"  # its own file names the stage


def test_a_bare_no_is_no_precision(tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text("distributed_type: MULTI_GPU\nmixed_precision: no\n")
    assert read_way(file, {}) == Way("none", "no", 1)


@pytest.mark.parametrize(("text", "said"), [("a: [", "is no YAML"), ("- 1", "no configuration"), ("", "no configuration")])
def test_what_is_no_configuration_is_refused_in_one_line(text, said, tmp_path):
    (tmp_path / "some.yaml").write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_way(tmp_path / "some.yaml", {})
    assert "\n" not in str(error.value)
