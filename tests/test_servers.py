"""Evaluation by a server: a small one that speaks OpenAI's interface gives what the same policy gives in this process."""

import base64
import io
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image, ImageOps

from vr1kit.cli import main
from vr1kit.evaluations import Settings, evaluate
from vr1kit.models import load_policy
from vr1kit.safekeeping.files import read_json
from vr1kit.scale.servers import ServerError, find_model, read_choice
from vr1kit.scenes import write_scenes


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "road"
    write_scenes(folder, "road", range(4))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`mixed` behind /v1: yields (address, requests seen)."""
    from vr1kit.asking import answer_queries

    policy, folder, seen, lock = load_policy("mixed"), tmp_path_factory.mktemp("pictures"), [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def reply(self, code, body):
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_GET(self):
            self.reply(200, {"data": [{"id": "served-name"}]})

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if request["max_tokens"] > 1024:
                return self.reply(400, {"error": {"message": "max_tokens is too large"}})
            picture, question = request["messages"][0]["content"]
            with lock:
                seen.append(request)
                path = folder / f"{len(seen)}.png"
                sent = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].split(",")[1])))
                on_white = Image.new("RGBA", sent.size, "white")  # what vLLM makes of a picture
                on_white.alpha_composite(sent.convert("RGBA"))
                ImageOps.exif_transpose(on_white if sent.mode == "RGBA" else sent).convert("RGB").save(path)
                drawn = request["temperature"] > 0
                rows = answer_queries(
                    policy, [str(path)], [question["text"]], max_new_tokens=request["max_tokens"],
                    samples=request["n"] if drawn else 0, seed=request["seed"],
                )[0]  # fmt: skip
            choices = []
            for row in rows:
                tokens = [{"token": row.text[a:b], "bytes": list(row.text[a:b].encode())} for a, b in row.spans]
                tokens[-1] = {"token": "<|im_end|>", "bytes": None}  # vLLM names the end token, too
                logs = [{**t, "logprob": float(p)} for t, p in zip(tokens, row.logps, strict=True)]
                choices.append({"message": {"content": row.text}, "logprobs": {"content": logs}})
            self.reply(200, {"choices": choices})

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/v1", seen
    served.shutdown()


def test_a_server_gives_the_answers_scores_and_numbers_of_this_process(server, road, tmp_path, capsys):
    address, seen = server
    words = ["evaluate", "--model", "mixed", "--data", str(road), "--score", "token_prob", "--batch", "2"]
    assert main([*words, "--server", address, "--out", str(tmp_path / "served")]) == 0
    assert len(seen) == 4 and {r["model"] for r in seen} == {"served-name"} and {r["n"] for r in seen} == {1}
    here = evaluate("mixed", road, tmp_path / "here", Settings(score="token_prob"), batch=2)
    rows, expected = (
        [json.loads(line) for line in (tmp_path / name / "evaluation/answers.jsonl").read_text().splitlines()]
        for name in ("served", "here")
    )
    assert [r["text"] for r in rows] == [r["text"] for r in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-4) and row["tokens"] == other["tokens"]
    metrics = read_json(tmp_path / "served/evaluation/metrics.json")
    assert metrics["AP"] == pytest.approx(here.metrics()["AP"], abs=0.1) and metrics["AP"] > 5
    assert (
        main([*words, "--server", address, "--out", str(tmp_path / "served")]) == 0 and len(seen) == 4
    )  # found, not asked again
    assert main([*words, "--out", str(tmp_path / "served")]) == 2  # not the same evaluation as one made here
    assert "holds another evaluation" in capsys.readouterr().err


def test_a_server_sees_the_pixels_that_this_process_sees(server, road, tmp_path):
    """Turned by EXIF and see-through: vLLM 0.29 would answer about other pictures, at AP 0."""
    address, _ = server
    shutil.copytree(road, odd := tmp_path / "odd")
    for k, path in enumerate(sorted((odd / "images").iterdir())):
        picture, turned = Image.open(path).convert("RGB"), Image.Exif()
        turned[0x0112] = 6
        if k % 2:
            picture.putalpha(0)
        picture.save(path, exif=turned if k % 2 == 0 else b"")
    texts = []
    for name, where in (("served", address), ("here", None)):
        step = evaluate("mixed", odd, tmp_path / name, Settings(), server=where)
        texts.append([json.loads(line)["text"] for line in (step.path / "answers.jsonl").read_text().splitlines()])
    assert texts[0] == texts[1] and len(set(texts[0])) > 1


def test_what_a_request_says(server, road, tmp_path):
    """All that a server would take from generation_config.json: of Qwen2.5-VL's it would draw eight equal votes (top_k 1)."""
    address, seen = server
    evaluate("mixed", road, tmp_path / "one", Settings(limit=1), server=address)
    plain = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "temperature": 0.0, "return_token_ids": True}
    assert plain.items() <= seen[-1].items()


@pytest.mark.parametrize("where", ["answer", "choice"])  # vLLM, SGLang
def test_a_server_that_shows_another_size_is_refused(where, road, monkeypatch):
    from vr1kit.scale import servers

    policy, path = load_policy("mixed", weights=False), str(next((road / "images").iterdir()))
    choice = {"message": {"content": ""}, "logprobs": {"content": []}}

    def ask(tokens):
        prompt = {"prompt_token_ids": [9, *[policy.config.image_token_id] * tokens, 9]}
        said = {"choices": [choice], **prompt} if where == "answer" else {"choices": [{**choice, **prompt}]}
        monkeypatch.setattr(servers, "_call", lambda url, body: said)
        return servers.ask_server("http://x", "mixed", policy, [path], ["Where?"])

    assert [a.text for a in ask(36)[0]] == [a.text for a in ask(1)[0]] == [""]
    with pytest.raises(ServerError, match="in 16 tokens, and the processor of 'mixed' in 36.*--mm-processor-kwargs"):
        ask(16)


def test_a_vote_draws_its_samples_in_one_request(server, road, tmp_path):
    address, seen = server
    before = len(seen)
    settings = Settings(score="vote", samples=3, limit=1)
    step = evaluate("mixed", road, tmp_path / "vote", settings, server=address)
    assert [(r["n"], r["temperature"]) for r in seen[before:]] == [(1, 0.0), (3, 1.0)]
    assert {d["score"] for d in read_json(step.path / "detections.json")} <= {k / 3 for k in range(4)}


def test_what_a_server_cannot_do_is_said_in_one_line(server, road, tmp_path, capsys):
    words = ["evaluate", "--model", "mixed", "--data", str(road), "--out", str(tmp_path / "out")]

    def complaint(*more):
        capsys.readouterr()
        assert main([*words, *more]) == 2
        said = capsys.readouterr().err
        assert said.splitlines()[-1].startswith("vr1kit: "), said
        return said

    assert "no server answers at http://127.0.0.1:9/v1/models" in complaint("--server", "http://127.0.0.1:9/v1")
    assert "such as http://localhost:8000/v1" in complaint("--server", "somewhere")
    assert "refuses (400)" in (said := complaint("--server", server[0], "--max-new-tokens", "4096")) and "too large" in said
    assert "leave out --processes" in complaint("--server", server[0], "--processes", "2")


def test_the_model_is_the_one_asked_for_or_the_only_one(monkeypatch):
    from vr1kit.scale import servers

    monkeypatch.setattr(servers, "_call", lambda url: {"data": [{"id": "a"}, {"id": "b"}]})
    assert find_model("http://x/v1/", "b") == "b"
    with pytest.raises(ServerError, match="offers a, b, not 'c'"):
        find_model("http://x/v1", "c")


def test_spans_by_hand():
    say = lambda text, *tokens: {  # noqa: E731
        "message": {"content": text},
        "logprobs": {"content": [{"token": "?", "bytes": list(t), "logprob": -k} for k, t in enumerate(tokens)]},
    }
    answer = read_choice(say("aü!", b"a", b"\xc3", b"\xbc!", b"<end>"), "here")  # a letter of two bytes in two tokens
    assert answer.spans.tolist() == [[0, 1], [1, 1], [1, 3], [3, 3]] and answer.logps.tolist() == [0, -1, -2, -3]
    assert read_choice({"message": {"content": ""}, "logprobs": {"content": []}}, "here").spans.shape == (0, 2)
    with pytest.raises(ServerError, match="do not spell it: 'b'"):
        read_choice(say("b", b"a"), "here")
    with pytest.raises(ServerError, match="no log-probabilities"):
        read_choice({"message": {"content": "b"}}, "here")
    assert np.issubdtype(answer.spans.dtype, np.integer)


def test_special_tokens_and_torn_characters_by_hand():
    """As vLLM 0.29 says them: the text leaves special tokens out, and no bytes are told of a token that is no whole character."""
    say = lambda text, names, ids=None: {  # noqa: E731
        "message": {"content": text}, "token_ids": ids,
        "logprobs": {"content": [{"token": t, "bytes": list(t.encode()), "logprob": -1.0} for t in names]},
    }  # fmt: skip
    tokenizer = load_policy("mixed", weights=False).tokenizer
    ids = tokenizer(written := '[{"bbox_2d": [11, 0, 24, 14]}]', add_special_tokens=False)["input_ids"]
    names = [tokenizer.decode([i]) for i in ids]
    ids, names = [*ids[:-1], tokenizer.unk_token_id, ids[-1]], [*names[:-1], "<unk>", names[-1]]
    for some in (ids, None):
        answer = read_choice(say(written, names, some), "here", tokenizer)
        assert answer.text == written and len(answer.spans) == len(names) and len(set(answer.spans[-2])) == 1
        assert [written[a:b] for a, b in answer.spans] == [*names[:-2], "", names[-1]]
    with pytest.raises(ServerError, match="is it another model's"):
        read_choice(say("nothing of the kind", names, ids), "here", tokenizer)

    class Bytes:  # two numbers for one letter, then half of another letter
        all_special_tokens = ()

        def decode(self, some, skip_special_tokens):
            return bytes(some).decode(errors="replace")

    torn = list("é!".encode()) + [0xC3]
    assert read_choice(say("é!", ["", "é", "!", ""], torn), "here", Bytes()).spans.tolist() == [[0, 1], [0, 1], [1, 2], [2, 3]]
