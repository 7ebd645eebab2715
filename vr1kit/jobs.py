"""Which policies a study trains: each is one job, settled by the profile. Plain data; nothing here imports torch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from vr1kit.annotators import CARELESS, SLOPPY
from vr1kit.baselines import BASELINES
from vr1kit.credit import ObjectCredit
from vr1kit.criteria import ADVANCED, BEGINNER, NOVICE, Criteria, Schedule, Stage, ramp, single_stage, three_stage, two_stage
from vr1kit.profiles import SLOPPY_RATES, Profile, get_profile
from vr1kit.settings import GrpoSettings, SftSettings


@dataclass(frozen=True)
class Job:
    """One policy to train and test. `settings` overrides the profile's (ablations), `annotator` gives the labels of the mix
    (`vr1kit.annotators`; "" is the truth), `start` is the job whose policy it starts from (None: the base policy, and `sft` for
    `sft_vision_r1`); `name` is its folder.
    """

    base: str
    seed: int
    policy: str
    settings: GrpoSettings | SftSettings | None = None
    tag: str = ""
    annotator: str = ""
    start: Job | None = None

    def __post_init__(self) -> None:
        if self.policy == "sft_vision_r1" and self.start is None:
            object.__setattr__(self, "start", Job(self.base, self.seed, "sft"))

    @property
    def name(self) -> str:
        return f"{self.base}-base" if self.policy == "base" else f"{self.base}-seed{self.seed}-{self.tag or self.policy}"


def resolve(job: Job, profile: Profile) -> GrpoSettings | SftSettings | None:
    """The settings of a policy: the profile's, with what makes the policy what it is."""
    if job.settings is not None:
        return replace(job.settings, seed=job.seed)

    def sft(policy: str) -> SftSettings:
        return replace(profile.sft.get((job.base, policy), SftSettings()), seed=job.seed)

    def grpo(credit: str) -> GrpoSettings:
        return replace(profile.grpo.get((job.base, credit), GrpoSettings(credit=credit)), seed=job.seed)

    table = {
        "base": None,
        "sft": sft("sft"),
        "sft_equal_compute": sft("sft_equal_compute"),
        "vision_r1": grpo("completion"),
        "vision_r1_object": grpo("object"),
        "sft_vision_r1": grpo("object"),
    }
    return table[job.policy]


def list_jobs(profile: str) -> list[Job]:
    """Every policy of the profile. Long ones first, but `sft` before what starts from it."""
    p = get_profile(profile)
    jobs = [Job(base, 0, "base") for base in p.base_policies]
    jobs += [
        Job(b, s, policy)
        for s in p.seeds
        for b in p.base_policies
        for policy in ("sft", "vision_r1_object", "vision_r1")
        if policy in p.policies
    ]
    jobs += [
        Job(b, s, policy)
        for s in p.seeds
        for b in p.base_policies
        for policy in ("sft_vision_r1", "sft_equal_compute")
        if policy in p.policies
    ]
    return jobs


def _raise_all(by: float) -> Schedule:
    """The paper's two stages with every threshold moved by the same amount."""
    beginner, advanced = (Criteria(*(round(v + by, 3) for v in (c.xi0, c.xi1, c.xi2))) for c in (BEGINNER, ADVANCED))
    return Schedule((Stage("beginner", 0.5, beginner), Stage("advanced", 1.0, advanced)))


#: What each ablation changes in the method's settings, with the paper's table it mirrors. "reviewers": asked for in its reviews.
ABLATIONS: dict[str, tuple[str, dict]] = {
    "all_rewards": ("Table 4", {}),
    "precision_only": ("Table 4", {"reward_weights": (0.0, 0.0, 1.0)}),
    "precision_recall": ("Table 4", {"reward_weights": (0.0, 1.0, 1.0)}),
    "box_and_label": ("Table 3", {"variant": "box_and_label"}),
    "step_0": ("Tables 5, 10", {"schedule": two_stage(0.0)}),
    "step_1_3": ("Tables 5, 10", {"schedule": two_stage(1 / 3)}),
    "step_1": ("Tables 5, 10", {"schedule": two_stage(1.0)}),
    "ramp": ("ours", {"schedule": ramp()}),
    "novice_first": ("ours", {"schedule": three_stage()}),
    "lower_thresholds": ("reviewers", {"schedule": _raise_all(-0.1)}),
    "higher_thresholds": ("reviewers", {"schedule": _raise_all(0.08)}),
    "beta_0.04": ("reviewers", {"beta": 0.04}),
    "beta_0.2": ("reviewers", {"beta": 0.2}),
    "group_4": ("ours", {"num_generations": 4, "prompts_per_step": 32}),
    "group_16": ("ours", {"num_generations": 16, "prompts_per_step": 8}),
    "released": ("released code", {"variant": "released"}),
    "strict": ("ours", {"variant": "strict"}),
    "object_credit": ("ours", {"credit": "object"}),
    "object_without_choices": ("ours", {"credit": "object", "object_credit": ObjectCredit(choices=False)}),
    **{name: ("peers", {"baseline": name}) for name in BASELINES},
}


def list_ablations(profile: str, base: str = "mixed") -> list[Job]:
    """Short runs that differ from the first in one thing each; their tag says which."""
    p = get_profile(profile)
    short = replace(p.grpo[base, "completion"], steps=p.ablation_steps, save_steps=p.ablation_steps)
    return [
        Job(base, seed, "vision_r1", replace(short, **ABLATIONS[name][1]), f"ablation-{name}")
        for seed in p.ablation_seeds
        for name in p.ablations or ABLATIONS
    ]


def list_long_ablations(profile: str, base: str = "mixed") -> list[Job]:
    """Those that the profile wants at the main study's length, its `vision_r1` first, which they are compared with."""
    p = get_profile(profile)
    long = [
        Job(base, seed, "vision_r1", replace(p.grpo[base, "completion"], **ABLATIONS[name][1]), f"long-{name}")
        for name in p.long_ablations
        for seed in p.seeds
    ]
    return [*(Job(base, seed, "vision_r1") for seed in p.seeds), *long] if long else []


#: The schedules that a weak base is taught with: the paper's beginner throughout, and our easier stage for the first half.
WEAK_SCHEDULES = {
    "beginner_only": single_stage(),
    "novice_first": Schedule((Stage("novice", 0.5, NOVICE), Stage("beginner", 1.0, BEGINNER))),
}


def list_weak(profile: str, base: str = "mixed") -> list[Job]:
    """The trap of notebook 02 with a real policy: a base taught by careless labels until it knows less than half, and Vision-R1
    from there on the truth, by each of `WEAK_SCHEDULES`. The weak base is the first of each seed.
    """
    p, jobs = get_profile(profile), []
    short = replace(p.grpo[base, "completion"], steps=p.ablation_steps, save_steps=p.ablation_steps)
    for seed in p.weak_seeds:
        weak = Job(base, seed, "sft", SftSettings(epochs=2.0, learning_rate=1e-3), "weak-base", CARELESS)
        jobs.append(weak)
        jobs += [
            Job(base, seed, "vision_r1", replace(short, schedule=schedule), f"weak-{name}", start=weak)
            for name, schedule in WEAK_SCHEDULES.items()
        ]
    return jobs


def list_annotated(profile: str, base: str = "mixed") -> list[Job]:
    """The baseline and both credits, on labels as annotators give them instead of the truth."""
    p, jobs = get_profile(profile), []
    for seed, annotator in itertools.product(p.annotator_seeds, SLOPPY):
        for policy in ("vision_r1_object", "vision_r1", "sft_equal_compute", "sft"):
            rate = SLOPPY_RATES.get((policy, annotator))
            settings = replace(p.sft[base, policy], learning_rate=rate) if rate else None
            jobs.append(Job(base, seed, policy, settings, f"annotator-{annotator}-{policy}", annotator))
    return jobs


#: Hyper-parameters tried on the validation split, for baseline and method alike, by base policy, policy and annotator; the best are
#: profiles.LEARNING_RATES. The baseline is swept once more on sloppy labels: rates that suit perfect ones need not suit these.
SWEEPS = {
    ("mixed", "sft", ""): {"epochs": (1.0, 7.0), "learning_rate": (1e-4, 3e-4, 1e-3, 2e-3, 4e-3)},
    ("mixed", "vision_r1", ""): {"credit": ("completion", "object"), "learning_rate": (1e-4, 3e-4, 5e-4, 1e-3)},
    ("converged", "sft", ""): {"epochs": (1.0, 7.0), "learning_rate": (1e-5, 3e-5, 1e-4, 3e-4)},
    ("converged", "vision_r1", ""): {"credit": ("completion", "object"), "learning_rate": (1e-5, 3e-5, 1e-4, 3e-4)},
    **{("mixed", "sft", name): {"epochs": (1.0, 7.0), "learning_rate": (1e-4, 3e-4, 1e-3, 2e-3)} for name in SLOPPY},
}


def list_sweeps(profile: str) -> list[Job]:
    """One run per cell of each grid, seed 0."""
    p, jobs = get_profile(profile), []
    for (base, policy, annotator), grid in SWEEPS.items():
        start = p.sft[base, "sft"] if policy == "sft" else p.grpo[base, "completion"]
        for values in itertools.product(*grid.values()):
            changes = dict(zip(grid, values, strict=True))
            cell = "-".join(f"{k}_{v:g}" if isinstance(v, float) else f"{k}_{v}" for k, v in changes.items())
            tag = "-".join(word for word in ("sweep", annotator, policy, cell) if word)
            jobs.append(Job(base, 0, policy, replace(start, **changes), tag, annotator))
    return jobs


def count_steps(job: Job, profile: Profile) -> int:
    settings = resolve(job, profile)
    if settings is None:
        return 0
    if isinstance(settings, SftSettings):
        return int(math.ceil(profile.mix.total / settings.batch) * settings.epochs)
    return settings.steps
