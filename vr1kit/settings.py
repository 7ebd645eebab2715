"""Hyper-parameters of the baseline and the method, each with its source. Plain data: nothing here imports torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from vr1kit.credit import ObjectCredit
from vr1kit.criteria import Schedule, two_stage


@dataclass(frozen=True)
class GrpoSettings:
    """One run. Defaults are the tiny profile's; the paper's value stands in the comment."""

    steps: int = 150
    prompts_per_step: int = 16  # released script: 16
    num_generations: int = 8  # released script: 4
    learning_rate: float = 1e-4  # paper: 1e-6 (7 B parameters); for our 2 M see profiles.LEARNING_RATES
    warmup_steps: int = 5
    beta: float = 0.0  # paper: 0.2; see the ablations beta_0.04 and beta_0.2
    temperature: float = 1.0  # released script
    max_completion_length: int = 96  # released script: 512; the densest scene needs 75 of our tokens
    epsilon: float = 0.2  # released script's trl default; idle, as each batch is used once
    num_iterations: int = 1  # released script
    loss_type: str = "grpo"  # paper Eq. 2: mean over tokens, then over completions
    scale_rewards: str = "group"  # paper: advantages normalised within the group
    max_grad_norm: float = 1.0
    lr_scheduler: str = "cosine"  # ours: the noise of the last steps stays out of the result
    schedule: Schedule = field(default_factory=two_stage)
    reward_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # format, recall, precision; paper Sec. 3.2
    variant: str = "paper"  # of rewards.VARIANTS
    baseline: str = ""  # a peer's reward of baselines.BASELINES instead; ours are then logged, not optimised
    credit: str = "completion"  # the paper; "object" is ours
    object_credit: ObjectCredit = ObjectCredit()
    train_tower: bool = False  # ours: the tower is frozen
    lora_rank: int = 0  # 0: all (unfrozen) weights
    seed: int = 0
    save_steps: int = 50

    def to_config(self) -> dict:
        """Plain data for fingerprints and provenance."""
        return asdict(self)


@dataclass(frozen=True)
class SftSettings:
    """One run. Defaults are the tiny profile's; the paper's value stands in the comment."""

    epochs: float = 1.0  # paper: 1
    batch: int = 32  # paper: 128
    learning_rate: float = 3e-4  # paper: 2e-6 (7 B parameters); ours swept on validation (`vr1kit study --part sweeps`)
    warmup_steps: int = 5
    lr_scheduler: str = "cosine"
    max_grad_norm: float = 1.0
    train_tower: bool = False  # as in GRPO
    lora_rank: int = 0
    seed: int = 0
    save_steps: int = 200

    def to_config(self) -> dict:
        return asdict(self)
