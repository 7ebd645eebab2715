"""Vision-R1: criterion-driven rewards and progressive rule refinement, optimised by GRPO. Thin over trl's GRPOTrainer.

What is ours on top of trl, all of it optional:
1. parsing and matching happen once per completion although trl calls three reward functions (`Rewards`);
2. the criteria follow the schedule by `trainer_state`: a share of training, not a step number (paper Sec. 3.3);
3. `credit="object"`: advantages per box instead of per completion (`vr1kit.credit`);
4. a group shares its picture and its prompt in generation and in the loss (`vr1kit.decoding`), and its preprocessing.

Every hyper-parameter that changes the objective is set here and sourced, because trl's defaults differ from the paper and move.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from vr1kit.adapters import lora_config
from vr1kit.baselines import BASELINES
from vr1kit.credit import assign_object_credit
from vr1kit.criteria import Criteria, Schedule
from vr1kit.data import decode_images
from vr1kit.decoding import generate, score_completions, supports_shared_prompts
from vr1kit.families import JSON, AnswerFormat
from vr1kit.models import Policy, freeze_tower
from vr1kit.rewards import VARIANTS, Score, score_group
from vr1kit.safekeeping.files import open_folder_atomic
from vr1kit.settings import KLS, LOSSES, GrpoSettings
from vr1kit.tokens import token_spans
from vr1kit.training import (
    LearningRateGroups,
    LoadsOwnCheckpoints,
    Monitor,
    ProgressLog,
    execution_options,
    run_trainer,
    save_trained,
)


class Rewards:
    """The three reward functions for trl, computed together: each completion is parsed and matched once. With a `baseline`, a
    fourth: the peer's, which alone is optimised.

    `last` keeps the scores of the latest batch for credit assignment and logging.
    """

    def __init__(self, schedule: Schedule, variant: str = "paper", baseline: str = "", format: AnswerFormat = JSON):
        if baseline and baseline not in BASELINES:
            raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, got {baseline!r}")
        if format is not JSON and (baseline or VARIANTS[variant].lenient_format):
            raise ValueError(f"{baseline or variant} reads JSON answers only, and this family writes {format.name}; take another")
        self.format = format
        self.schedule, self.variant, self.baseline = schedule, variant, baseline
        self.last: list[Score] = []
        self._key: object = None
        self.seconds = 0.0

    def functions(self) -> list[Callable]:
        def dual_format(completions, **columns):
            return [s.dual_format for s in self._scores(completions, **columns)]

        def recall(completions, **columns):
            return [s.recall for s in self._scores(completions, **columns)]

        def precision(completions, **columns):
            return [s.precision for s in self._scores(completions, **columns)]

        def baseline(completions, **columns):
            return self._baseline_scores(completions, **columns)

        return [dual_format, recall, precision, *([baseline] if self.baseline else [])]

    def weights(self, of_ours: tuple[float, float, float]) -> list[float]:
        return [0.0, 0.0, 0.0, 1.0] if self.baseline else list(of_ours)

    def criteria(self, trainer_state) -> Criteria:
        return self.schedule.criteria_at(min(trainer_state.global_step / max(trainer_state.max_steps, 1), 1.0))

    def _scores(self, completions, boxes_xyxy, labels, size, trainer_state, **_) -> list[Score]:
        if self._key is not completions:
            began = time.perf_counter()
            criteria, texts, self.last = self.criteria(trainer_state), [_text(c) for c in completions], []
            for rows in _groups(boxes_xyxy):
                truth, first = _truth(boxes_xyxy[rows.start]), rows.start
                self.last += score_group(
                    texts[rows],
                    truth,
                    labels[first],
                    tuple(size[first]),
                    criteria,
                    self.variant,
                    parse=None if self.format is JSON else self.format.parse,
                )
            self._key = completions
            self.seconds += time.perf_counter() - began
        return self.last

    def _baseline_scores(self, completions, boxes_xyxy, labels, size, trainer_state, **_) -> list[float]:
        reward, texts, out = BASELINES[self.baseline], [_text(c) for c in completions], []
        if self.baseline == "v_triune":  # the only one whose thresholds rise
            reward = partial(reward, progress=min(trainer_state.global_step / max(trainer_state.max_steps, 1), 1.0))
        for rows in _groups(boxes_xyxy):
            out += reward(texts[rows], _truth(boxes_xyxy[rows.start]), labels[rows.start], tuple(size[rows.start]))
        return out


def _groups(boxes_xyxy: Sequence) -> list[slice]:
    """Consecutive rows with the same truth are one group."""
    ends = [k for k in range(1, len(boxes_xyxy)) if boxes_xyxy[k] is not boxes_xyxy[k - 1] and boxes_xyxy[k] != boxes_xyxy[k - 1]]
    return [slice(start, end) for start, end in zip([0, *ends], [*ends, len(boxes_xyxy)], strict=True)]


def _truth(boxes_xyxy) -> np.ndarray:
    return np.asarray(boxes_xyxy, float).reshape(-1, 4)


def _text(completion) -> str:
    return completion if isinstance(completion, str) else completion[0]["content"]


class GroupedProcessor:
    """Process each picture and prompt of a batch once: trl hands over every prompt G times in a row, twice a step."""

    def __init__(self, processor, group: int):
        self._processor, self._group = processor, group

    def __getattr__(self, name):
        return getattr(self._processor, name)

    def apply_chat_template(self, conversation, **kwargs):
        if not kwargs.get("tokenize") or len(conversation) % self._group:
            return self._processor.apply_chat_template(conversation=conversation, **kwargs)
        return self._repeat(self._processor.apply_chat_template(conversation=conversation[:: self._group], **kwargs))

    def __call__(self, images=None, text=None, **kwargs):
        if not isinstance(text, list) or images is None or len(text) % self._group:
            return self._processor(images=images, text=text, **kwargs)
        return self._repeat(self._processor(images=images[:: self._group], text=text[:: self._group], **kwargs))

    def _repeat(self, batch):
        grid = batch.get("image_grid_thw")
        for key, value in batch.items():
            if key == "pixel_values" and grid is not None:  # rows of all pictures, one after the other
                rows = torch.as_tensor(np.asarray(grid)).prod(-1).tolist()
                parts = torch.split(torch.as_tensor(np.asarray(value)), rows)
                batch[key] = torch.cat([p for part in parts for p in [part] * self._group])
            elif isinstance(value, torch.Tensor):
                batch[key] = value.repeat_interleave(self._group, 0)
            elif isinstance(value, np.ndarray):
                batch[key] = np.repeat(value, self._group, 0)
            else:
                batch[key] = [row for row in value for _ in range(self._group)]
        return batch


def ask_colocated(generate: Callable, image: int, prompts: list[list[int]], images, *rest, **options) -> tuple:
    """trl's `VLLMGeneration.generate` with each picture shown once. vLLM 0.29 writes a picture's tokens in place of one placeholder,
    and trl 1.16 hands over as many as the picture has (its issue 6294): of 36 it makes 71, and the answers are about something else.

    image: the placeholder. Raises RuntimeError where vLLM answers another prompt than the loss will see.
    """
    short = prompts
    if images is not None:
        short = [[t for k, t in enumerate(ids) if t != image or ids[k - 1 : k] != [image]] for ids in prompts]
    seen, *found = generate(short, images, *rest, **options)
    for mine, theirs in zip(prompts, seen, strict=True):
        if list(theirs) != list(mine):
            what = f"vLLM answers a prompt of {len(theirs)} tokens, and the loss would see {len(mine)}"
            raise RuntimeError(f"{what}; give vLLM the same picture bounds and chat template, or train without execution.vllm")
    return seen, *found


class EpochSampler(RepeatSampler):
    """trl's sampler, but the order of an epoch is a function of seed and epoch. trl's is one of how many epochs this process has
    begun, so that a training resumed after its first epoch would see the pictures in the order of the first again.
    """

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch by the trainer. Orders are those of an undisturbed training with trl's own sampler."""
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(epoch):
                torch.randperm(self.num_samples, generator=self.generator)


class VisionR1Trainer(LearningRateGroups, LoadsOwnCheckpoints, GRPOTrainer):
    """trl's GRPOTrainer with shared prompts and object-level credit."""

    def __init__(self, *args, rewards: Rewards, settings: GrpoSettings, **kwargs):
        self.rewards, self.settings, self._prompt_of = rewards, settings, None
        super().__init__(*args, **kwargs)
        self.tower_learning_rate = settings.tower_learning_rate
        whole = self.args.per_device_train_batch_size * self.args.steps_per_generation % self.num_generations == 0
        if settings.credit == "object" and not whole:
            each = f"{settings.prompts_per_step} prompts for {self.accelerator.num_processes} processes"
            raise ValueError(
                f'credit "object" compares the answers of a group, which one process must hold: {each} do not divide'
            )
        # Sharded weights only come together inside the wrapper's forward, and DDP counts on that too; but without gradients
        # DDP's model is whole. Checkpointed activations and a cache exclude each other.
        replicated = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        self.share_generation = replicated and whole and not self.use_vllm and supports_shared_prompts(self.model)
        self.share_loss = (
            self.share_generation and self.accelerator.num_processes == 1 and not settings.execution.activation_checkpointing
        )
        if whole:
            self.processing_class = GroupedProcessor(self.processing_class, self.num_generations)
        self._token_text: dict[int, str] = {}
        if self.use_vllm and self.args.vllm_mode == "colocate":
            image = self.accelerator.unwrap_model(self.model).config.image_token_id
            self.vllm_generation.generate = partial(ask_colocated, self.vllm_generation.generate, image)

    def _get_train_sampler(self, dataset=None):
        s = super()._get_train_sampler(dataset)
        return EpochSampler(s.data_source, s.mini_repeat_count, s.batch_size, s.repeat_count, s.shuffle, s.seed)

    # --- generation --------------------------------------------------------------------------------------------------------
    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        group = self.num_generations
        if not self.share_generation or not self.model.training or len(prompt_ids) % group:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
        unique = prompt_ids[::group]
        longest = max(map(len, unique))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in unique])
        inputs = {"input_ids": ids, "attention_mask": torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in unique])}
        grid = torch.as_tensor(np.asarray(multimodal_fields["image_grid_thw"]))
        pixels = torch.split(torch.as_tensor(np.asarray(multimodal_fields["pixel_values"])), grid.prod(-1).tolist())
        inputs["image_grid_thw"], inputs["pixel_values"] = grid[::group], torch.cat(pixels[::group])
        types = multimodal_fields["mm_token_type_ids"][::group]
        inputs["mm_token_type_ids"] = torch.tensor([[0] * (longest - len(t)) + list(t) for t in types])
        inputs = {k: v.to(self.accelerator.device) for k, v in inputs.items()}
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        tokens, _ = generate(
            model, inputs, per_prompt=group, temperature=self.temperature, max_new_tokens=self.max_completion_length,
            eos_token_id=self._tokenizer.eos_token_id,
            forbidden=() if self.share_loss else (model.config.image_token_id,),  # trl's loss would look for its picture
        )  # fmt: skip
        model.train()
        return tokens, None

    # --- advantages ----------------------------------------------------------------------------------------------------------
    def _generate_and_score_completions(self, inputs):
        self.rewards.last = []
        # In this order until the batch is shuffled: the reference is asked here, too, before the loss sets its own.
        self._prompt_of = torch.arange(len(inputs), device=self.accelerator.device) // self.num_generations
        out = super()._generate_and_score_completions(inputs)
        out["prompt_of"] = self._prompt_of
        if self.settings.credit == "object":
            out["advantages"] = self._object_advantages(inputs, out)
        return out

    def _object_advantages(self, inputs, out) -> torch.Tensor:
        """(B,) advantages -> (B, T). A completion whose tokens do not spell its text keeps its own advantage."""
        ids, mask, group = out["completion_ids"].tolist(), out["completion_mask"].sum(1).tolist(), self.num_generations
        table = out["advantages"][:, None].repeat(1, len(ids[0]))
        for start in range(0, len(ids), group):
            scores = self.rewards.last[start : start + group]
            written = [
                token_spans(row[:n], self._decode)
                for row, n in zip(ids[start : start + group], mask[start : start + group], strict=True)
            ]
            keep = [k for k in range(group) if written[k][0] == scores[k].parsed.text]
            credited = assign_object_credit(
                [scores[k] for k in keep], inputs[start]["labels"], table[start : start + group, 0].numpy(force=True)[keep],
                [written[k][1][:, 1] for k in keep], self.settings.object_credit, _truth(inputs[start]["boxes_xyxy"]),
            )  # fmt: skip
            for k, values in zip(keep, credited, strict=True):
                table[start + k, : len(values)] = torch.as_tensor(values, dtype=table.dtype)
        return table

    def _decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; single tokens, which `token_spans` asks for one by one, are remembered."""
        if len(ids) != 1:
            return self._tokenizer.decode(ids, skip_special_tokens=True)
        if ids[0] not in self._token_text:
            self._token_text[ids[0]] = self._tokenizer.decode(ids, skip_special_tokens=True)
        return self._token_text[ids[0]]

    # --- loss ------------------------------------------------------------------------------------------------------------------
    def _compute_loss(self, model, inputs):
        self._prompt_of = inputs.get("prompt_of")
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **kwargs):
        if (
            not self.share_loss
            or self._prompt_of is None
            or len(self._prompt_of) != len(input_ids)
            or kwargs.get("num_images") is None
        ):
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs
            )
        _, prompt_of = torch.unique(self._prompt_of, return_inverse=True)
        leaders = torch.stack([(prompt_of == u).nonzero()[0, 0] for u in range(int(prompt_of.max()) + 1)])
        grid = kwargs["image_grid_thw"]
        pixels = torch.split(kwargs["pixel_values"], grid.prod(-1).tolist())
        inputs = {
            "input_ids": input_ids[leaders, :-logits_to_keep], "attention_mask": attention_mask[leaders, :-logits_to_keep],
            "mm_token_type_ids": kwargs["mm_token_type_ids"][leaders, :-logits_to_keep], "image_grid_thw": grid[leaders],
            "pixel_values": torch.cat([pixels[i] for i in leaders.tolist()]),
        }  # fmt: skip
        completion, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        logps, entropies = score_completions(
            self.accelerator.unwrap_model(model), inputs, completion, mask, prompt_of, self.temperature
        )
        return logps, entropies if kwargs.get("compute_entropy") else None, None


#: trl's names -> ours (README explains each)
LOGGED = {
    "reward": "reward", "rewards/dual_format/mean": "dual_format", "rewards/recall/mean": "recall",
    "rewards/precision/mean": "precision", "reward_std": "reward_std", "frac_reward_zero_std": "zero_advantage",
    "completions/mean_length": "tokens", "completions/clipped_ratio": "cut_off", "entropy": "entropy", "kl": "kl",
    "loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate",
    "sampling/sampling_logp_difference/mean": "vllm_gap",
}  # fmt: skip


class StageSnapshot(TrainerCallback):
    """Keeps the policy as it is when a stage that is not the last ends: folder/model-<stage>.

    Until training ends it lies with the checkpoints, the only folder that an interrupted attempt leaves to the next.
    """

    def __init__(self, schedule: Schedule, folder: Path, save: Callable[[Path], None]):
        self.schedule, self.folder, self.save = schedule, folder, save

    def on_step_end(self, args, state, control, **_):
        before = self.schedule.stage_at((state.global_step - 1) / state.max_steps)
        if state.global_step < state.max_steps and self.schedule.stage_at(state.global_step / state.max_steps) is not before:
            self.save(self.folder / "checkpoints" / f"model-{before.name}")


def train_grpo(
    policy: Policy,
    dataset,
    root: Path,
    settings: GrpoSettings,
    folder: Path,
    log: Callable[[dict], None] = lambda row: None,
    show: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
    save_to: Path | None = None,
) -> Policy:
    """Train the policy in place and return it. An interrupted run in the same `folder` continues from its last checkpoint.

    dataset: columns of `vr1kit.data.to_dataset`, image paths below `root`. Checkpoints go to folder/checkpoints.
    """
    rewards = Rewards(settings.schedule, settings.variant, settings.baseline, policy.family.format)
    if not settings.train_tower:
        freeze_tower(policy.model)
    trainer = VisionR1Trainer(
        model=policy.model, reward_funcs=rewards.functions(), args=grpo_config(settings, folder, rewards.weights(settings.reward_weights)), train_dataset=decode_images(dataset, root),
        processing_class=policy.processor,
        callbacks=[ProgressLog(log, LOGGED, "reward", folder.name, show, settings.schedule), StageSnapshot(settings.schedule, folder, lambda to: save_trained(trainer, policy, to)),
            Monitor(LOGGED, folder, settings.stop_hopeless), *callbacks],
        peft_config=lora_config(settings.lora_rank), rewards=rewards, settings=settings,
    )  # fmt: skip
    policy = run_trainer(trainer, policy, folder, save_to)
    for snapshot in folder.glob("checkpoints/model-*") if trainer.accelerator.is_main_process else ():
        with open_folder_atomic(folder / snapshot.name) as kept:
            shutil.copytree(snapshot, kept, dirs_exist_ok=True)
    return policy


def grpo_config(settings: GrpoSettings, folder: Path, reward_weights: Sequence[float]) -> GRPOConfig:
    """trl's configuration with every field of the objective set."""
    s, e = settings, settings.execution
    loss, level = LOSSES[s.loss_type]
    vllm = {
        "use_vllm": True, "vllm_mode": e.vllm, "vllm_server_base_url": e.vllm_url if e.vllm == "server" else None,
        "vllm_gpu_memory_utilization": e.vllm_memory, "vllm_tensor_parallel_size": e.vllm_tensor_parallel,
        "vllm_max_model_length": e.vllm_context or None,  # None: the model's own, room for which no small GPU has
        # trl's defaults, said: an answer that the loss finds over three times as probable as vLLM did is left out
        "vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": "sequence_mask", "vllm_importance_sampling_clip_max": 3.0,
        "generation_kwargs": {"bad_words": ["<|image_pad|>"]},  # the loss would look for its picture; trl forbids it elsewhere
    } if e.vllm else {}  # fmt: skip
    return GRPOConfig(
        **execution_options(s, s.prompts_per_step * s.num_generations, folder), **vllm, max_steps=s.steps,
        num_generations=s.num_generations, num_iterations=s.num_iterations, max_completion_length=s.max_completion_length,
        temperature=s.temperature, top_p=1.0, top_k=0, min_p=None, repetition_penalty=1.0, learning_rate=s.learning_rate,
        lr_scheduler_type=s.lr_scheduler, warmup_steps=s.warmup_steps, max_grad_norm=s.max_grad_norm, beta=s.beta, loss_type=loss,
        importance_sampling_level=level, use_bias_correction_kl=KLS[s.kl], scale_rewards=s.scale_rewards, epsilon=s.epsilon,
        epsilon_high=s.epsilon_high, mask_truncated_completions=s.mask_cut_off, reward_weights=list(reward_weights),
        shuffle_dataset=True, remove_unused_columns=False, seed=s.seed, data_seed=s.seed, logging_steps=1, save_strategy="steps",
        save_steps=s.save_steps, log_completions=False,
    )  # fmt: skip
