"""Profiles of real models, as data: what is trained how, on which hardware, for how long, and which number it aims at.

    vr1kit plan --profile qwen2.5-vl-7b                 # memory by part, tokens and time, before anything is loaded
    vr1kit train --profile qwen2.5-vl-3b-lora --model PATH --data FOLDER

Every value that is not the paper's or a released script's says so. **None of these has been run with real weights**; hours are the
plan's estimate for the paper's 49K examples (`vr1kit.scale.plan`), not a measurement. The study's own profiles are in `vr1kit.profiles`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vr1kit.criteria import two_stage
from vr1kit.scale.plan import Lengths
from vr1kit.scale.shapes import SHAPES
from vr1kit.settings import Execution, GrpoSettings

PAPER_EXAMPLES = 49_000  # paper Sec. 4.1


@dataclass(frozen=True)
class ModelProfile:
    """One way to train one model."""

    name: str
    purpose: str
    model: str  # a hub name or base policy, where --model does not say otherwise
    shape: str  # of shapes.SHAPES, what the plan computes with; "" for a base policy, whose own configuration is read
    settings: GrpoSettings
    lengths: Lengths  # longest question with its picture, answer, picture: tokens
    gpu: str  # of plan.GPUS; "" for the CPU
    gpus: int
    sharding: str  # of plan.SHARDINGS
    accelerate: str  # configs/accelerate/NAME.yaml; "" for one process
    dtype: str
    quantize: str
    hours: float  # for PAPER_EXAMPLES, estimated
    aims_at: str
    attention: str = ""  # transformers' attn_implementation; "" for its own choice

    @property
    def bound_pixels(self) -> bool:
        """Published checkpoints look at up to 16,384 visual tokens a picture; ours are made for their pictures."""
        return bool(self.shape and SHAPES[self.shape].hub)

    @property
    def command(self) -> str:
        """What starts it, on the hardware it is made for."""
        many = f" --processes {self.gpus} --accelerate configs/accelerate/{self.accelerate}.yaml" if self.gpus > 1 else ""
        return f"vr1kit train --profile {self.name} --model {self.model} --data FOLDER{many}"


# The category list of COCO in Qwen's prompt is about 190 tokens, the picture at most 512 (paper: 401408 pixels).
_LENGTHS = Lengths(prompt=760, completion=512, image=512)
_PAPER = GrpoSettings(
    steps=PAPER_EXAMPLES // 16,  # one epoch (paper)
    prompts_per_step=16,  # released script
    num_generations=4,  # released script
    learning_rate=1e-6,  # paper
    warmup_steps=0,
    lr_scheduler="linear",  # transformers' default, which the released script keeps
    beta=0.2,  # paper
    max_completion_length=512,  # released script
    train_tower=True,  # released Qwen3-VL configuration; the paper does not say
    schedule=two_stage(1.0),  # paper Table 10: best for Qwen2.5-VL is never to switch
    save_steps=100,
    execution=Execution(precision="bfloat16", activation_checkpointing=True, accumulation=1),
)
_LORA = replace(
    _PAPER,
    learning_rate=1e-5,  # ours: adapters learn with ten times the rate of all weights (LoRA without regret, Thinking Machines 2025)
    lora_rank=64,  # ours
    train_tower=False,
    execution=replace(_PAPER.execution, accumulation=16),
)

MODEL_PROFILES = {
    p.name: p
    for p in (
        ModelProfile(
            "tiny", "the path of real models on two CPU cores in minutes, with the base policy of the package", "mixed", "",
            GrpoSettings(steps=20, save_steps=10), Lengths(110, 96, 36), "", 1, "none", "", "float32", "", 0.05,
            "no number of the paper's: it shows that the command works",
        ),
        ModelProfile(
            "tiny-gpu", "50 M parameters from scratch on scenes; first `vr1kit pretrain --out runs/base-gpu --size tiny-gpu --device cuda --processes 1 --batch 64`",
            "runs/base-gpu/mixed", "tiny-gpu",
            GrpoSettings(
                steps=300, prompts_per_step=64, num_generations=8, learning_rate=1e-4, save_steps=100,  # all ours, none of them tried
                execution=Execution(precision="bfloat16"),
            ),
            Lengths(110, 96, 36), "rtx4090", 1, "none", "", "float32", "", 0.25,
            "no number of the paper's; above its own SFT on the same scenes",
        ),
        ModelProfile(
            "qwen2.5-vl-3b-lora", "adapters on one 24 GB GPU", "Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl-3b", _LORA, _LENGTHS,
            "rtx4090", 1, "none", "", "bfloat16", "", 66, "no number of the paper's (it trains 7B); the direction of Table 1",
        ),
        ModelProfile(
            "qwen2.5-vl-7b-lora", "adapters on one 80 GB GPU", "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b",
            replace(_LORA, execution=replace(_LORA.execution, accumulation=8)), _LENGTHS,
            "a100-80", 1, "none", "", "bfloat16", "", 71, "COCO mAP 26.6 from 17.7 (paper Table 1), which trains all weights",
        ),
        ModelProfile(
            "qwen2.5-vl-7b", "the paper: all weights, 8 GPUs of 80 GB", "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b", _PAPER, _LENGTHS,
            "h100-80", 8, "fsdp2", "fsdp2", "float32", "", 17.5, "COCO mAP 26.6, ODINW-13 46.0 (paper Table 1)",
        ),
        ModelProfile(
            "qwen2.5-vl-32b-lora", "adapters over 8 GPUs of 80 GB, weights sharded", "Qwen/Qwen2.5-VL-32B-Instruct", "qwen2.5-vl-32b",
            replace(_LORA, execution=replace(_LORA.execution, accumulation=2)), _LENGTHS,
            "h100-80", 8, "fsdp2", "fsdp2", "bfloat16", "", 28, "no number of the paper's (it trains 7B); the direction of Table 1",
        ),
        ModelProfile(
            "qwen3-vl-8b", "all weights, 8 GPUs of 80 GB", "Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl-8b",
            replace(
                _PAPER, prompts_per_step=64, num_generations=8, beta=0.01, steps=PAPER_EXAMPLES // 64,  # released Qwen3-VL configuration
                execution=replace(_PAPER.execution, accumulation=16),
            ),
            _LENGTHS, "h100-80", 8, "fsdp2", "fsdp2", "float32", "", 8.5,
            "COCO mAP 36.6 from 30.7, ODINW-13 48.5 from 45.2 (released code's page on Qwen3-VL)",
        ),
    )
}  # fmt: skip


def get_model_profile(name: str) -> ModelProfile:
    """Raises ValueError for a name that is not there."""
    if name not in MODEL_PROFILES:
        raise ValueError(f"model profile '{name}' is not known; take one of: {', '.join(MODEL_PROFILES)}")
    return MODEL_PROFILES[name]
