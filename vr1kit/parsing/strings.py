"""Strings: from a quote to where the string ends, in JSON and in text that is none (see `scan`)."""

from __future__ import annotations

import json
import re

_DOUBLE = re.compile(r'"((?:[^"\\{}\n]++|\\(?:.|\Z))*+)', re.DOTALL)
_SINGLE = re.compile(  # the ' of "man's" does not end a string, nor do all but the last of many
    r"""'((?:[^'\\{}\n]++|\\(?:.|\Z)|'+(?=')|'(?![ \t\r\n]*(?:[,:\]}]|\Z)))*+)""", re.DOTALL
)
_FORBIDDEN = re.compile(r"[\x00-\x1f]")

String = tuple[str, int, bool, bool]  # value; end; closed by its quote; as JSON has it


def read_json_string(text: str, start: int) -> String:
    """The string whose quote is at `start` of JSON; JSONDecodeError if the text is not JSON here."""
    if text[start] != '"':
        raise json.JSONDecodeError("not a JSON string", text, start)
    value, end = json.decoder.scanstring(text, start + 1, True)
    return value, end, True, True


def read_torn_string(text: str, start: int) -> String:
    """The same for other text: a string also ends, unclosed, before a brace or newline and where the text ends."""
    quote = text[start]
    match = (_DOUBLE if quote == '"' else _SINGLE).match(text, start)
    value, end = match[1], match.end()
    closed = text.startswith(quote, end)
    proper = closed and quote == '"' and not _FORBIDDEN.search(value)
    if closed and "\\" in value:
        if quote == "'":
            value = value.replace("\\'", "'").replace('"', '\\"')
        try:
            value = json.decoder.scanstring(value + '"', 0, False)[0]
        except json.JSONDecodeError:  # a backslash that escapes nothing: keep the text as it stands, and say so
            proper = False
    return value, end + closed, closed, proper
