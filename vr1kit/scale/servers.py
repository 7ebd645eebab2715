"""Answers from a model that runs elsewhere, behind the interface of OpenAI's chat completions: vLLM, SGLang.

    vllm serve PATH --tensor-parallel-size 4                # one model over several GPUs, or several copies of it
    vr1kit evaluate --model PATH --server http://localhost:8000/v1 --data coco --split val2017 --out runs/NAME --batch 64

`--model` is still needed: its processor says at which size the model sees a picture, and so what its coordinates mean. A server
that was given another processor (`--mm-processor-kwargs`) sees another size, and its boxes would be read wrongly: refused where
the server tells the tokens of its prompt.

`ask_server` takes the place of `asking.answer_queries`: the same answers, with the log-probability of each token. Requests of a
batch run side by side; how they share the GPUs is the server's business. Standard library only, no client to install.

What was learnt from vLLM 0.29 on a CPU (docs/real_models.md):
1. it takes what a request leaves out from the checkpoint's generation_config.json, and Qwen2.5-VL's has top_k 1: `PLAIN`;
2. its text leaves special tokens out, its log-probabilities do not, and of a character in several tokens it gives no bytes: so the
   numbers of the tokens are asked for, and spelled by the checkpoint's own tokenizer;
3. it turns pictures as their EXIF says and lays transparent ones on white, which training and evaluation here do not.
"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vr1kit.asking import MAX_NEW_TOKENS, TEMPERATURE, Answer
from vr1kit.data import read_image
from vr1kit.formats.images import ORIENTATION, open_image
from vr1kit.models import Policy
from vr1kit.records import BadRecord
from vr1kit.tokens import token_spans

TIMEOUT = 600  # seconds for one request; ours
TYPES = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}  # sent as they are; others as PNG
TORN = "\ufffd"  # stands for bytes that are no character
#: Nothing but the temperature shapes what is drawn. All but top_p are vLLM's and SGLang's own.
PLAIN = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


class ServerError(OSError):
    """A server cannot be used; the message says which and what to do, in one line."""


def find_model(server: str, wanted: str) -> str:
    """The name under which the server offers the model: `wanted` itself, or the only one that there is. Raises ServerError."""
    offered = [row["id"] for row in _call(f"{server.rstrip('/')}/models").get("data", [])]
    if wanted in offered or len(offered) == 1:
        return wanted if wanted in offered else offered[0]
    raise ServerError(f"{server} offers {', '.join(offered) or 'no model'}, not '{wanted}'; serve it under that name")


def ask_server(
    server: str,
    model: str,
    policy: Policy,
    image_paths: Sequence[str],
    prompts: Sequence[str],
    *,
    samples: int = 0,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    batch: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[list[Answer]]:
    """Answers to each question, in order: one greedy answer, or `samples` drawn ones. `model` as `find_model` gives it.

    `batch` is how many requests wait for an answer at once. Raises ServerError.
    """

    def ask(k: int) -> list[Answer]:
        url, size = _as_data(image_paths[k])
        picture = {"type": "image_url", "image_url": {"url": url}}
        question = {"type": "text", "text": policy.family.reword(prompts[k])}
        request = {
            "model": model, "messages": [{"role": "user", "content": [picture, question]}], "max_tokens": max_new_tokens,
            "temperature": temperature if samples else 0.0, "n": samples or 1, "seed": seed + k, "logprobs": True, **PLAIN,
            "return_token_ids": True,
        }  # fmt: skip
        said = _call(f"{server.rstrip('/')}/chat/completions", request)
        _check_picture(said, policy, image_paths[k], size, server)
        return [read_choice(choice, server, policy.tokenizer) for choice in said["choices"]]

    with ThreadPoolExecutor(batch) as pool:
        return list(pool.map(ask, range(len(prompts))))


def read_choice(choice: dict[str, Any], server: str, tokenizer: Any = None) -> Answer:
    """One of a response's choices: its text, and what each token of it writes, by the tokens' numbers where the server tells them.

    Raises ServerError where it does not say what is needed, or the tokens do not spell its text.
    """
    text, tokens = choice["message"].get("content") or "", (choice.get("logprobs") or {}).get("content")
    if tokens is None:
        raise ServerError(f"{server} gives no log-probabilities of tokens (`logprobs`); vLLM and SGLang do")
    if tokenizer is not None and len(ids := choice.get("token_ids") or ()) == len(tokens):
        spelled, spans = token_spans(ids, lambda some: tokenizer.decode(some, skip_special_tokens=True))
        # Bytes that are no character: servers write fewer marks for them than the tokenizer, and none at the end.
        if not spelled.replace(TORN, "").startswith(text.replace(TORN, "")):
            raise ServerError(f"{server}: the tokens of an answer do not spell it: {text[:60]!r}; is it another model's?")
        return Answer(spelled, spans, np.array([t["logprob"] for t in tokens], float))
    special = set(tokenizer.all_special_tokens) if tokenizer is not None else set()
    pieces = [b"" if t["token"] in special else _bytes_of(t) for t in tokens]
    spelled, spans = token_spans(pieces, lambda some: b"".join(some).decode(errors="ignore"))
    if not spelled.startswith(text):  # what follows is the end token, or a stripped space
        raise ServerError(f"{server}: the tokens of an answer do not spell it: {text[:60]!r}")
    spans = np.minimum(spans, len(text))
    return Answer(text, spans, np.array([t["logprob"] for t in tokens], float))


def _bytes_of(token: dict[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") is not None else token["token"].encode()


def _check_picture(said: dict[str, Any], policy: Policy, path: str, size: tuple[int, int], server: str) -> None:
    """The server must have shown the picture at the size that the checkpoint's own processor gives it."""
    prompt = said.get("prompt_token_ids") or said["choices"][0].get("prompt_token_ids") or []  # vLLM, SGLang
    seen, expected = prompt.count(policy.config.image_token_id), policy.count_image_tokens(*size)
    if seen > 1 and seen != expected:  # fewer: it does not spell pictures out there
        what = f"{server} shows {Path(path).name} in {seen} tokens, and the processor of '{policy.name}' in {expected}"
        raise ServerError(f"{what}: its boxes would be read wrongly; serve the same checkpoint, without --mm-processor-kwargs")


def _as_data(path: str) -> tuple[str, tuple[int, int]]:
    """The picture as the model sees it here, and its size: what a server would turn or lay on white is sent as plain pixels."""
    try:
        with open_image(path) as picture:
            plain = picture.mode in ("RGB", "L") and picture.getexif().get(ORIENTATION, 1) == 1
            kind, size = picture.format, picture.size
    except BadRecord as error:
        raise error.at(path, "the picture") from None
    if plain and kind in TYPES:
        return f"data:image/{TYPES[kind]};base64," + base64.b64encode(Path(path).read_bytes()).decode(), size
    buffer = io.BytesIO()
    read_image(path, keep=False).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), size


def _call(url: str, body: dict | None = None) -> dict:
    try:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        said = " ".join(error.read().decode(errors="replace").split())[:300]
        raise ServerError(f"{url} refuses ({error.code}): {said}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        what = f"no server answers at {url} ({getattr(error, 'reason', error)})"
        raise ServerError(f"{what}; start one, such as `vllm serve PATH`; what is answered is kept") from error
    except ValueError as error:  # an address that is none, or no JSON
        raise ServerError(f"{url}: {error}; give the address of an OpenAI interface, such as http://localhost:8000/v1") from error
