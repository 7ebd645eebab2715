"""How the processes of a training share it, as accelerate says: in its file before they start, in their environment inside.

A checkpoint goes on only where it is shared in the way in which it was written: whole weights as whole ones, shards of FSDP2 as
shards of FSDP2 (on any number of processes), those of DeepSpeed as those of the same stage on the same number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Way:
    """Sharding of plan.SHARDINGS ("zero" where DeepSpeed's own file names the stage), accelerate's mixed_precision ("": not said)."""

    sharding: str = "none"
    precision: str = ""
    machines: int = 1


def read_way(file: Path | None, environment: Mapping[str, str]) -> Way:
    """From accelerate's configuration file, else from the environment of a process that it started."""
    if file is None:
        is_on = lambda name: environment.get(f"ACCELERATE_USE_{name}", "").lower() == "true"  # noqa: E731
        stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
        kind = "DEEPSPEED" if is_on("DEEPSPEED") else "FSDP" if is_on("FSDP") else ""
        return Way(_name(kind, stage), environment.get("ACCELERATE_MIXED_PRECISION", ""))
    if not file.is_file():
        raise ValueError(f"{file}: no such file; ready ones are in configs/accelerate")
    said = _read_yaml(file)
    stage = (said.get("deepspeed_config") or {}).get("zero_stage", "")
    precision = said.get("mixed_precision", "")
    return Way(
        _name(str(said.get("distributed_type", "")), str(stage)),
        "no" if precision is False else str(precision),  # YAML reads a bare `no` as false
        int(said.get("num_machines", 1)),
    )


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict):
        raise ValueError(f"{file} is no configuration of accelerate's; ready ones are in configs/accelerate")
    return said


def _name(kind: str, stage: str) -> str:
    return {"DEEPSPEED": f"zero{stage}", "FSDP": "fsdp2"}.get(kind, "none")


def read_checkpoint(checkpoint: Path) -> tuple[str, int]:
    """(sharding, processes) with which a checkpoint was written; 0 processes where any number may go on."""
    parts = [path.name for path in checkpoint.glob("global_step*/*_optim_states.pt")]
    if parts:
        return ("zero3" if any(checkpoint.glob("global_step*/zero_pp_rank_*_model_states.pt")) else "zero2"), len(parts)
    return ("fsdp2" if any(checkpoint.glob("pytorch_model_fsdp_*")) or any(checkpoint.glob("optimizer_*")) else "none"), 0
