"""Profiles: the one dial. A profile says, as data, how many pictures, steps and seeds a run has; no code asks which it is.

`tiny` is the whole study for one seed on two CPU cores in half an hour. `published` is what was run for
runs/published, whose small files are in the repository: three seeds, longer. `smoke` proves in a minute that all parts fit together; its numbers mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vr1kit.scenes import SHIFTED, TOYBOX, UNSEEN
from vr1kit.settings import GrpoSettings, SftSettings

POLICIES = ("base", "sft", "sft_equal_compute", "vision_r1", "vision_r1_object", "sft_vision_r1")
SHIFTED_NAMES = tuple(d.name for d in SHIFTED)
UNSEEN_NAMES = tuple(d.name for d in UNSEEN)

# First picture seed of each split; they never meet (pre-training uses 10_000_000 and up).
SPLITS = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}


@dataclass(frozen=True)
class Pictures:
    """How many scenes are drawn per split: of the toy box, of each shifted domain, of each unseen domain; and questions."""

    train: tuple[int, int] = (2400, 80)
    val: tuple[int, int] = (256, 16)
    test: tuple[int, int, int] = (500, 48, 80)
    questions: int = 400


@dataclass(frozen=True)
class Mix:
    """The curated mix, in the paper's proportions: 30K detection, 9K other domains, 10K referring of 49K (Sec. 4.1)."""

    detection: int = 980
    other_domains: int = 300
    referring: int = 320

    @property
    def total(self) -> int:
        return self.detection + self.other_domains + self.referring


#: Chosen on the validation split (`vr1kit study --part sweeps`): for each base policy, of SFT for one epoch and for as long as
#: Vision-R1 takes, and of Vision-R1 with either credit.
LEARNING_RATES = {
    "mixed": {"sft": 2e-3, "sft_equal_compute": 1e-3, "completion": 3e-4, "object": 5e-4},
    "converged": {"sft": 3e-5, "sft_equal_compute": 1e-5, "completion": 1e-5, "object": 1e-5},
}

#: Of the baseline on the labels of sloppy annotators, where another rate than on the truth was best on the validation split.
SLOPPY_RATES = {("sft_equal_compute", "loose"): 3e-4, ("sft_equal_compute", "missing"): 3e-4}


def plan_sft(equal_epochs: float) -> dict[tuple[str, str], SftSettings]:
    """Settings of SFT by base policy and policy: one epoch, and as many epochs as take Vision-R1's time (measured; notebook 04)."""
    epochs = {"sft": 1.0, "sft_equal_compute": equal_epochs}
    return {
        (base, policy): SftSettings(epochs=n, learning_rate=rates[policy])
        for base, rates in LEARNING_RATES.items()
        for policy, n in epochs.items()
    }


def plan_grpo(steps: int, **changes) -> dict[tuple[str, str], GrpoSettings]:
    """Settings of Vision-R1 by base policy and credit; `changes` are fields of all of them."""
    return {
        (base, credit): GrpoSettings(steps=steps, learning_rate=rates[credit], credit=credit, **changes)
        for base, rates in LEARNING_RATES.items()
        for credit in ("completion", "object")
    }


@dataclass(frozen=True)
class Profile:
    name: str
    purpose: str
    base_policies: tuple[str, ...] = ("mixed", "converged")
    seeds: tuple[int, ...] = (0,)
    policies: tuple[str, ...] = POLICIES
    pictures: Pictures = Pictures()
    mix: Mix = Mix()
    sft: Mapping[tuple[str, str], SftSettings] = field(default_factory=lambda: plan_sft(4.7))  # by base policy and policy
    grpo: Mapping[tuple[str, str], GrpoSettings] = field(default_factory=lambda: plan_grpo(100))  # by base policy and credit
    ablation_seeds: tuple[int, ...] = (0,)
    ablations: tuple[str, ...] = ("all_rewards", "precision_only", "precision_recall")  # of jobs.ABLATIONS; (): every one
    ablation_steps: int = 40
    long_ablations: tuple[str, ...] = ()  # of jobs.ABLATIONS: as long as the main study, for its seeds, on the test split
    weak_seeds: tuple[int, ...] = ()  # of jobs.list_weak
    annotator_seeds: tuple[int, ...] = (0,)  # of jobs.list_annotated
    workers: int = 2  # jobs side by side, one thread each
    minutes: Mapping[str, float] = field(
        default_factory=lambda: {
            "01_data_curation": 1.5, "02_reward_ablations": 4, "03_two_stage_grpo": 17, "04_evaluation": 1.5, "05_figures": 0.5,
        }
    )  # fmt: skip


TINY = Profile("tiny", "the whole study, one seed, two CPU cores, half an hour")
PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        TINY,
        replace(
            TINY, name="published", purpose="what runs/published holds: three seeds, half as many steps again, every ablation; three hours",
            seeds=(0, 1, 2), grpo=plan_grpo(150), sft=plan_sft(7.0),
            ablations=(), ablation_seeds=(0, 1, 2), long_ablations=("strict",), weak_seeds=(0, 1, 2), annotator_seeds=(0, 1, 2),
        ),
        replace(
            TINY, name="smoke", purpose="one minute, to see that all parts fit; its numbers mean nothing",
            pictures=Pictures((40, 2), (8, 1), (12, 2, 2), 12), mix=Mix(12, 13, 7), ablation_steps=2, ablations=("all_rewards",), long_ablations=("strict",), weak_seeds=(0,), sft=plan_sft(2.0),
            grpo=plan_grpo(4, prompts_per_step=4, num_generations=4, save_steps=2),
            minutes=dict.fromkeys(TINY.minutes, 0.5),
        ),
    )
}  # fmt: skip


def get_profile(name: str) -> Profile:
    """Raises ValueError for a name that is not there."""
    if name not in PROFILES:
        raise ValueError(f"profile '{name}' is not known; take one of: {', '.join(PROFILES)}")
    return PROFILES[name]


def domains_of(suite: str) -> tuple[str, ...]:
    """The detection sets of a suite."""
    return {"in_domain": (TOYBOX.name,), "shifted13": SHIFTED_NAMES, "unseen4": UNSEEN_NAMES}[suite]
