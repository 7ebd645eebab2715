"""Hyper-parameters of the baseline and the method, each with its source. Plain data: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field

from vr1kit.credit import ObjectCredit
from vr1kit.criteria import Schedule, two_stage
from vr1kit.records import shorten

#: Objectives by name: trl's loss and the level of its importance weights. How each averages over tokens is all that differs.
LOSSES = {
    "grpo": ("grpo", "token"),  # DeepSeekMath, Eq. 3; paper Eq. 2: mean over tokens, then over completions
    "dr_grpo": ("dr_grpo", "token"),  # arXiv 2503.20783: sum over tokens by a constant; take scale_rewards "none" with it
    "dapo": ("dapo", "token"),  # arXiv 2503.14476: mean over all tokens of the batch; take epsilon_high 0.28 with it
    "bnpo": ("bnpo", "token"),  # as dapo, over the local batch
    "gspo": ("grpo", "sequence"),  # arXiv 2507.18071: one weight per completion; take epsilon 3e-4, epsilon_high 4e-4 with it
}
#: Estimators of the distance from the base policy: True multiplies by the importance weight (DeepSeek-V3.2, arXiv 2512.02556).
KLS = {"k3": False, "k3_unbiased": True}  # k3: Schulman 2020, DeepSeekMath Eq. 4
SCALES = ("group", "batch", "none")  # paper and DeepSeekMath; arXiv 2508.08221; Dr. GRPO
PRECISIONS = ("float32", "bfloat16")
TRACKERS = ("tensorboard", "wandb", "trackio")
VLLM = ("", "colocate", "server")


@dataclass(frozen=True)
class Execution:
    """How a training is run; nothing here changes the objective. Defaults: one process, as the tiny profile needs."""

    precision: str = "float32"  # bfloat16: autocast over weights of whatever dtype they were loaded in
    accumulation: int = 1  # micro-batches per step: each process sees prompts x generations / processes / accumulation at once
    activation_checkpointing: bool = False  # recompute instead of keeping
    trackers: tuple[str, ...] = ()  # of TRACKERS, beside log.jsonl
    vllm: str = ""  # rollouts by vLLM, in the training's own GPUs (colocate) or by `vllm serve` (server; docs/real_models.md)
    vllm_url: str = "http://localhost:8000"  # of the server
    vllm_memory: float = 0.3  # share of the GPU for a colocated vLLM; trl's default
    vllm_tensor_parallel: int = 1  # GPUs that share one colocated vLLM
    vllm_context: int = 0  # tokens of question and answer a colocated vLLM has room for; 0: what `vr1kit train` finds in the data

    def __post_init__(self):
        _check("precision", self.precision, PRECISIONS)
        _check("vllm", self.vllm, VLLM)
        for tracker in self.trackers:
            _check("trackers", tracker, TRACKERS)
        if self.accumulation < 1:
            raise ValueError(f"accumulation must be at least 1, got {shorten(self.accumulation)}")


def _check(name: str, value: object, known: Collection) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {shorten(value)}")


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
    epsilon_high: float | None = None  # the upper bound where it differs; DAPO 0.28, GSPO 4e-4
    num_iterations: int = 1  # released script
    loss_type: str = "grpo"  # of LOSSES; paper Eq. 2
    kl: str = "k3"  # of KLS; idle at beta 0
    mask_cut_off: bool = False  # DAPO, Sec. 3.4: answers cut at the limit do not count
    scale_rewards: str = "group"  # of SCALES; paper: advantages normalised within the group
    weight_decay: float = 0.0  # released script's default
    max_grad_norm: float = 1.0
    lr_scheduler: str = "cosine"  # ours: the noise of the last steps stays out of the result
    schedule: Schedule = field(default_factory=two_stage)
    reward_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # format, recall, precision; paper Sec. 3.2
    variant: str = "paper"  # of rewards.VARIANTS
    baseline: str = ""  # a peer's reward of baselines.BASELINES instead; ours are then logged, not optimised
    credit: str = "completion"  # the paper; "object" is ours
    object_credit: ObjectCredit = ObjectCredit()
    train_tower: bool = False  # ours: the tower is frozen
    tower_learning_rate: float | None = None  # where it differs from the rest's
    lora_rank: int = 0  # 0: all (unfrozen) weights
    stop_hopeless: bool = False  # end early where the monitor finds nothing more to learn (`vr1kit.monitor`)
    execution: Execution = Execution()
    seed: int = 0
    save_steps: int = 50

    def __post_init__(self):
        for name, known in (("loss_type", LOSSES), ("kl", KLS), ("scale_rewards", SCALES)):
            _check(name, getattr(self, name), known)
        for name in ("steps", "prompts_per_step", "max_completion_length", "num_iterations", "save_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {shorten(getattr(self, name))}")
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations must be at least 2, since advantages compare answers, got {shorten(self.num_generations)}"
            )

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
    tower_learning_rate: float | None = None
    lora_rank: int = 0
    execution: Execution = Execution()
    seed: int = 0
    save_steps: int = 200

    def to_config(self) -> dict:
        return asdict(self)
