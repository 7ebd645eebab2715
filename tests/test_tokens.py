from vr1kit.completions import parse_completion
from vr1kit.measures.confidence import tokens_of
from vr1kit.tokens import token_spans

SIZE = (100, 100)


def byte_level():
    """A tokenizer that writes one byte a token: characters beyond ASCII take several, as in Qwen's vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_characters_of_several_tokens_belong_to_all_of_them():
    tokenizer = byte_level()
    text = '[{"bbox_2d": [1, 2, 3, 4], "label": "dé猫"}]'
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    written, spans = token_spans(ids, tokenizer.decode)
    assert written == text
    item = parse_completion(text, SIZE).spans[0]
    mine = tokens_of(item, text, spans)
    assert mine.sum() == 4 + len("dé猫".encode())
    at = len(text[: text.index("d\u00e9")].encode())
    assert mine[at : at + 6].all() and not mine[at - 1] and not mine[at + 6]


def test_token_spans_of_the_tiny_tokenizer(random_policy):
    tokenizer = random_policy.tokenizer
    text = '[{"bbox_2d": [10, 10, 30, 35], "label": "car"}, {"bbox_2d": [9, 8, 97, 96], "label": "card"}]'
    ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    written, spans = token_spans(ids, lambda some: tokenizer.decode(some, skip_special_tokens=True))
    assert written == text and spans[-1].tolist() == [len(text), len(text)]
    assert (spans[1:, 0] == spans[:-1, 1]).all() and spans[0, 0] == 0
    assert token_spans([], tokenizer.decode)[1].shape == (0, 2)


def test_ends_rise_and_the_last_is_the_texts_length():
    """What credit per object needs: each token's last character, in order."""
    tokenizer = byte_level()
    text = '[{"bbox_2d": [1, 2, 3, 4], "label": "d\u00e9"}]'
    written, spans = token_spans(tokenizer.encode(text).ids, tokenizer.decode)
    assert (spans[1:, 1] >= spans[:-1, 1]).all() and spans[-1, 1] == len(written) == len(text)
