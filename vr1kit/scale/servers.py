"""Answers from a model that runs elsewhere, behind the interface of OpenAI's chat completions: vLLM, SGLang.

    vllm serve PATH --tensor-parallel-size 4                # one model over several GPUs, or several copies of it
    vr1kit evaluate --model PATH --server http://localhost:8000/v1 --data coco --split val2017 --out runs/NAME --batch 64

`--model` is still needed: its processor says at which size the model sees a picture, and so what its coordinates mean. A server
that was given another processor (`--mm-processor-kwargs`) sees another size, and its boxes would be read wrongly.

`ask_server` takes the place of `asking.answer_queries`: the same answers, with the log-probability of each token. Requests of a
batch run side by side; how they share the GPUs is the server's business. Standard library only, no client to install.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vr1kit.asking import MAX_NEW_TOKENS, TEMPERATURE, Answer
from vr1kit.models import Policy
from vr1kit.tokens import token_spans

TIMEOUT = 600  # seconds for one request; ours
TYPES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".gif": "gif", ".bmp": "bmp"}


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
        picture = {"type": "image_url", "image_url": {"url": _as_data(Path(image_paths[k]))}}
        question = {"type": "text", "text": policy.family.reword(prompts[k])}
        request = {
            "model": model, "messages": [{"role": "user", "content": [picture, question]}], "max_tokens": max_new_tokens,
            "temperature": temperature if samples else 0.0, "n": samples or 1, "seed": seed + k, "logprobs": True,
        }  # fmt: skip
        return [read_choice(choice, server) for choice in _call(f"{server.rstrip('/')}/chat/completions", request)["choices"]]

    with ThreadPoolExecutor(batch) as pool:
        return list(pool.map(ask, range(len(prompts))))


def read_choice(choice: dict[str, Any], server: str) -> Answer:
    """One of a response's choices: its text, and what each token of it writes. Raises ServerError where these are not said."""
    text, tokens = choice["message"].get("content") or "", (choice.get("logprobs") or {}).get("content")
    if tokens is None:
        raise ServerError(f"{server} gives no log-probabilities of tokens (`logprobs`); vLLM and SGLang do")
    pieces = [bytes(t["bytes"]) if t.get("bytes") is not None else t["token"].encode() for t in tokens]
    spelled, spans = token_spans(pieces, lambda some: b"".join(some).decode(errors="ignore"))
    if not spelled.startswith(text):  # what follows is the end token, or a stripped space
        raise ServerError(f"{server}: the tokens of an answer do not spell it: {text[:60]!r}")
    spans = np.minimum(spans, len(text))
    return Answer(text, spans, np.array([t["logprob"] for t in tokens], float))


def _as_data(path: Path) -> str:
    if path.suffix.lower() not in TYPES:
        raise ServerError(f"{path}: servers take {', '.join(TYPES)}; convert it, or evaluate without --server")
    return f"data:image/{TYPES[path.suffix.lower()]};base64," + base64.b64encode(path.read_bytes()).decode()


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
