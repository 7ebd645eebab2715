"""What is said when processes end; the processes themselves are in test_distributed.py."""

from pathlib import Path

import pytest

from vr1kit.scale.launcher import build_command, explain, follow, launch

ELASTIC = """\
W1121 17:36:40 torch/distributed/elastic: Sending process 24529 closing signal SIGTERM
vr1kit.cli FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-21_17:36:40
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 24530)
"""


def test_a_killed_process_is_told_from_one_that_failed():
    assert explain(ELASTIC.format(code=-9), 2).startswith(
        "process 2 of 2 was killed by SIGKILL (out of memory is the usual reason)"
    )
    assert "SIGTERM" in explain(ELASTIC.format(code=-15), 2)
    failed = explain("[rank1]: ValueError: boxes must be finite\n" + ELASTIC.format(code=1), 2)
    assert failed == "process 2 of 2 failed: ValueError: boxes must be finite"
    assert explain("vr1kit: there is no 'x'\n" + ELASTIC.format(code=2), 4) == "process 2 of 4 failed: there is no 'x'"
    assert "no reason" in explain("", 2)


def test_commands():
    words = ["train", "--profile", "tiny"]
    plain = build_command(words, 2)
    assert plain[1:3] == ["-m", "torch.distributed.run"] and plain[-4:] == ["vr1kit.cli", *words] and "2" in plain
    sharded = build_command(words, 8, Path("configs/accelerate/fsdp2.yaml"))
    assert sharded[2] == "accelerate.commands.launch" and "configs/accelerate/fsdp2.yaml" in sharded


def test_the_launchers_take_none_of_our_words_for_theirs():
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    words = ["train", "--profile", "tiny", "--run", "mine", "--label", "two", "-p", "steps", "3", "--data", "-m"]
    for parser, file in ((get_args_parser(), None), (launch_command_parser(), Path("some.yaml"))):
        read = parser.parse_args(build_command(words, 2, file)[3:])
        assert (read.training_script, read.training_script_args) == ("vr1kit.cli", words)


def test_a_log_is_followed_row_by_row(tmp_path):
    log, said = tmp_path / "log.jsonl", []
    poll = follow(log, said.append)
    poll()
    log.write_text('{"step": 1, "reward": 0.5, "other": 1}\n{"step": 2, "rew')
    poll()
    poll()
    assert said == ["step 1  reward 0.5"]
    log.write_text('{"step": 1, "reward": 0.5, "other": 1}\n{"step": 2, "reward": 0.7}\n')
    poll()
    assert said[1:] == ["step 2  reward 0.7"]
    log.write_text('{"step": 1, "reward": 0.5}\n')  # resumed from step 1
    poll()
    with open(log, "a") as out:
        out.write('{"step": 2, "reward": 0.6}\n')
    poll()
    assert said[2:] == ["step 2  reward 0.6"]


def test_a_missing_configuration_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file; ready ones are in configs/accelerate"):
        launch(["train"], 2, tmp_path / "log", tmp_path / "none.yaml")


def test_a_configuration_for_several_machines_is_not_started_on_one(tmp_path):
    file = Path(__file__).parents[1] / "configs" / "accelerate" / "multi_node.yaml"
    with pytest.raises(ValueError, match="is for 2 machines; start `accelerate launch --config_file .* on each of them"):
        launch(["train"], 2, tmp_path / "log", file)


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[1].glob("configs/accelerate/*.yaml")), ids=lambda p: p.stem)
def test_accelerate_reads_every_configuration(file):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    assert config.num_processes >= 8 and config.mixed_precision == "bf16"
    known = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "multi_node": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    assert known[file.stem] in str(config.distributed_type)
    if config.fsdp_config:
        assert config.fsdp_config["fsdp_version"] == 2


def test_there_is_a_configuration_for_every_way():
    names = {p.stem for p in (Path(__file__).parents[1] / "configs" / "accelerate").glob("*.yaml")}
    assert names == {"ddp", "fsdp2", "zero2", "zero3", "multi_node"}
