"""Profiles: the one dial. A profile says, as data, how many pictures, steps and seeds a run has; no code asks which it is.

`tiny` is the whole study for one seed on two CPU cores in half an hour. `published` is what was run for
runs/published, whose small files are in the repository (so far the same, one seed). `smoke` proves in a minute that all parts fit together; its numbers mean nothing.
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


@dataclass(frozen=True)
class Profile:
    name: str
    purpose: str
    base_policies: tuple[str, ...] = ("mixed", "converged")
    seeds: tuple[int, ...] = (0,)
    policies: tuple[str, ...] = POLICIES
    pictures: Pictures = Pictures()
    mix: Mix = Mix()
    sft: SftSettings = SftSettings()
    sft_equal_epochs: float = 7.0  # as many epochs as take Vision-R1's time (measured; see notebook 04)
    grpo: Mapping[str, GrpoSettings] = field(
        default_factory=lambda: {
            "mixed": GrpoSettings(),
            "converged": GrpoSettings(learning_rate=2e-4),
        }
    )
    ablation_seeds: tuple[int, ...] = (0,)
    ablations: tuple[str, ...] = ("all_rewards", "precision_only", "precision_recall")
    ablation_steps: int = 40
    workers: int = 2  # jobs side by side, one thread each
    minutes: Mapping[str, float] = field(
        default_factory=lambda: {
            "01_data_curation": 1, "02_reward_ablations": 3, "03_two_stage_grpo": 20, "04_evaluation": 2, "05_figures": 0.5,
        }
    )  # fmt: skip


TINY = Profile("tiny", "the whole study, one seed, two CPU cores, half an hour")
PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        TINY,
        replace(TINY, name="published", purpose="what runs/published holds: so far one seed"),
        replace(
            TINY, name="smoke", purpose="one minute, to see that all parts fit; its numbers mean nothing",
            pictures=Pictures((40, 2), (8, 1), (12, 2, 2), 12), mix=Mix(12, 13, 7), ablation_steps=2, ablations=("all_rewards",), sft_equal_epochs=2.0,
            grpo={b: GrpoSettings(steps=4, prompts_per_step=4, num_generations=4, save_steps=2) for b in ("mixed", "converged")},
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
