"""What a training needs before it starts: memory of one GPU by part, tokens, steps and time, from a stated model.

Memory, in bytes; N parameters, T of them trained, S processes that share them (1 without sharding), b bytes of a number:

    weights      N b / S                     4-bit: linear maps of the text half at 0.53 bytes (QLoRA, with its constants)
    reference    N b / S                     only with beta > 0 and without adapters (which are switched off instead)
    gathered     two text layers and the embeddings, at compute precision, where weights are sharded
    gradients    T b / S                     ZeRO-2: sharded too
    optimizer    2 T b / S                   AdamW's two moments
    cache        rows (P + C) 2 L K d b      keys and values of all answers of a process at once (P prompt, C completion tokens)
    logits       rows V 4 while sampling; in the loss one tile of trl's fused head
    activations  per text layer and token: 6 h + 2 A + 2 K d + 4 f numbers (h hidden, A = heads x d, f intermediate; as many
                 A and K d again where queries and keys are normalised), and in half precision 2 bytes more for every number that
                 a norm takes in float32; checkpointed: h numbers, and one layer at full; the tower's by its own sizes (`KEPT`)
                 where it learns. Adapters: 3 h + 2 A + 2 K d + 3 f, since frozen norms and maps keep no input
    reserve      1 GB of the driver's and 5 % for what an allocator cannot use (ours)

    peak = weights + reference + gathered + optimizer + max(cache + logits, gradients + activations + logits) + reserve

Weights, gradients and optimizer are exact; activations are compared with what autograd keeps (tests/test_plan.py, on the CPU).
Time is a first guess: 2 N operations a token forward, 4 N backward, 2 N for what is recomputed, at 35 % of the peak (ours);
sampling reads all weights once per token. Nothing here was measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vr1kit.scale.shapes import Counts
from vr1kit.settings import GrpoSettings

GB = 1e9
SHARDINGS = ("none", "zero2", "zero3", "fsdp2")
FOUR_BIT = 0.53  # bytes a weight: 4 bits and the constants of double quantization, QLoRA Sec. 3
TILE = 4096 * 8192  # numbers of a tile of trl's fused head
UTILISATION = 0.35  # of the peak; ours
PASS_OVERHEAD = 0.025  # seconds of one token's pass by transformers' generate, whatever the model; ours, a guess
RESERVE, WASTE = 1 * GB, 0.05


@dataclass(frozen=True)
class Gpu:
    """Of the maker's data sheet: memory in bytes, dense bfloat16 operations and bytes of memory per second."""

    memory: float
    operations: float
    bandwidth: float


GPUS = {
    "rtx4090": Gpu(24 * GB, 165e12, 1.0e12),
    "a100-80": Gpu(80 * GB, 312e12, 2.0e12),
    "h100-80": Gpu(80 * GB, 989e12, 3.35e12),
}


@dataclass(frozen=True)
class Lengths:
    """Tokens of the longest question with its picture, of an answer at its limit, and of the picture alone."""

    prompt: int
    completion: int
    image: int


#: What autograd keeps of one tower layer for one patch, in multiples of its width and of its MLP's; read off the classes.
KEPT = {"qwen2_vl": (11, 3), "qwen2_5_vl": (13, 4), "qwen3_vl": (11, 2)}


@dataclass(frozen=True)
class Sizes:
    """What of a transformers configuration the memory depends on."""

    family: str
    layers: int
    hidden: int
    intermediate: int
    attention: int  # heads x head size
    keys: int  # key-value heads x head size
    vocabulary: int
    vision_layers: int
    vision_hidden: int
    vision_intermediate: int
    patch: int  # numbers of one patch: 3 colours x 2 frames x side x side


def read_sizes(config) -> Sizes:
    t, v = config.get_text_config(), config.vision_config
    head = getattr(t, "head_dim", None) or t.hidden_size // t.num_attention_heads
    hidden = getattr(v, "embed_dim", None) or v.hidden_size  # Qwen2-VL calls its tower's width embed_dim
    return Sizes(
        config.model_type, t.num_hidden_layers, t.hidden_size, t.intermediate_size, t.num_attention_heads * head,
        t.num_key_value_heads * head, t.vocab_size, v.depth, hidden,
        getattr(v, "intermediate_size", None) or hidden * v.mlp_ratio, 3 * v.temporal_patch_size * v.patch_size**2,
    )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Memory of one GPU in bytes by part, and seconds of a step by part."""

    memory: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens_per_step: int = 0

    @property
    def peak(self) -> float:
        m = self.memory
        sampling = m["cache"] + m["sampling_logits"]
        training = m["gradients"] + m["activations"] + m["loss_logits"]
        return m["weights"] + m["reference"] + m["gathered"] + m["optimizer"] + max(sampling, training) + m["reserve"]

    @property
    def step_seconds(self) -> float:
        return sum(self.seconds.values())


def count_trained(counts: Counts, sizes: Sizes, settings: GrpoSettings) -> int:
    """Parameters that learn: all but a frozen tower, or the adapters on the attention projections."""
    if settings.lora_rank:
        q, k = sizes.hidden + sizes.attention, sizes.hidden + sizes.keys
        return settings.lora_rank * sizes.layers * (2 * q + 2 * k)
    return counts.total - (0 if settings.train_tower else counts.vision)


def layer_bytes(sizes: Sizes, itemsize: int, lora: bool) -> float:
    """What autograd keeps of one text layer for one token."""
    qk_norm = sizes.attention + sizes.keys if sizes.family == "qwen3_vl" else 0
    numbers = 2 * (sizes.attention + sizes.keys)  # queries, keys, values, and what was attended to
    if lora:  # frozen norms and maps keep no input
        numbers += 3 * sizes.hidden + qk_norm + 3 * sizes.intermediate
    else:
        numbers += 6 * sizes.hidden + 2 * qk_norm + 4 * sizes.intermediate
    return numbers * itemsize + (2 * (2 * sizes.hidden + qk_norm) if itemsize < 4 else 0)


def vision_layer_bytes(sizes: Sizes, itemsize: int) -> float:
    """The same of one tower layer for one patch; four patches make a visual token."""
    wide, mlp = KEPT[sizes.family]
    return (wide * sizes.vision_hidden + mlp * sizes.vision_intermediate) * itemsize


def estimate_activations(sizes: Sizes, rows: int, lengths: Lengths, settings: GrpoSettings, itemsize: int) -> float:
    """Bytes that one micro-batch keeps for its backward pass."""
    tokens, patches = rows * (lengths.prompt + lengths.completion), rows * 4 * lengths.image
    text, vision = layer_bytes(sizes, itemsize, settings.lora_rank > 0), vision_layer_bytes(sizes, itemsize)
    outside = patches * (sizes.patch + 4 * sizes.vision_hidden) * itemsize if settings.train_tower else 0  # pixels and merger
    if not settings.execution.activation_checkpointing:
        return outside + tokens * text * sizes.layers + (patches * vision * sizes.vision_layers if settings.train_tower else 0)
    kept = outside + tokens * sizes.hidden * itemsize * sizes.layers
    if settings.train_tower:  # text and tower are recomputed one after the other, a layer at a time
        return kept + patches * sizes.vision_hidden * itemsize * sizes.vision_layers + max(tokens * text, patches * vision)
    return kept + tokens * text


def estimate(
    config,
    counts: Counts,
    settings: GrpoSettings,
    lengths: Lengths,
    *,
    dtype: str = "bfloat16",
    quantize: str = "",
    sharding: str = "none",
    processes: int = 1,
    gpu: Gpu,
) -> Plan:
    """Plan one GPU of `processes`. dtype is that of the loaded weights; settings.execution says the rest."""
    if sharding not in SHARDINGS:
        raise ValueError(f"sharding must be one of {', '.join(SHARDINGS)}, got {sharding!r}")
    sizes, e, lora = read_sizes(config), settings.execution, settings.lora_rank > 0
    b = 4 if dtype == "float32" else 2
    compute = 2 if e.precision == "bfloat16" else b
    weights_share = processes if sharding in ("zero3", "fsdp2") else 1
    state_share = processes if sharding != "none" else 1
    trained = count_trained(counts, sizes, settings)
    base = counts.total * b
    if quantize:
        base -= counts.linear * (b - (FOUR_BIT if quantize == "4bit" else 1.0))
    trained_bytes = 4 if lora else b  # peft keeps adapters in float32
    rows = settings.prompts_per_step * settings.num_generations // processes
    micro = max(1, rows // e.accumulation)
    length = lengths.prompt + lengths.completion
    layer = counts.linear / sizes.layers
    cache = rows * length * 2 * sizes.layers * sizes.keys * compute
    memory = {
        "weights": base / weights_share + (trained * trained_bytes if lora else 0),
        "reference": base / weights_share if settings.beta and not lora else 0.0,
        "gathered": (2 * layer + sizes.vocabulary * sizes.hidden) * compute if weights_share > 1 else 0.0,
        "gradients": trained * trained_bytes / state_share,
        "optimizer": 2 * trained * trained_bytes / state_share,
        "activations": estimate_activations(sizes, micro, lengths, settings, compute),
        "cache": {"": cache, "colocate": e.vllm_memory * gpu.memory, "server": 0.0}[e.vllm],
        "sampling_logits": 0.0 if e.vllm else 2.0 * rows * sizes.vocabulary * 4,
        "loss_logits": TILE * 4.0,
    }  # fmt: skip
    memory["reserve"] = RESERVE + WASTE * sum(memory.values())
    text = counts.total - counts.vision
    ahead = 2 * (text * length + counts.vision * 4 * lengths.image)  # operations of one row, forward
    factor = 3 + e.activation_checkpointing + (1 if settings.beta else 0)  # forward 1, backward 2
    speed = gpu.operations * UTILISATION
    passes = lengths.completion * (counts.total * b / gpu.bandwidth + (0 if e.vllm else PASS_OVERHEAD))
    prefill = settings.prompts_per_step / processes * 2 * (text * lengths.prompt + counts.vision * 4 * lengths.image) / speed
    decode = max(passes, rows * 2 * text * lengths.completion / speed)
    seconds = {"sampling": prefill + decode, "loss": settings.num_iterations * rows * ahead * factor / speed}
    return Plan(memory, seconds, settings.prompts_per_step * settings.num_generations * length)
