"""How many tokens a prompt has: the text encoder takes 512, and more makes the sampler fail.

A longer prompt is refused, not cut: which part of it matters, only its author knows.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from pathlib import Path

import sentencepiece
from safetensors import SafetensorError, safe_open

from talkinghead.errors import InvalidRequest

MAX_TOKENS = 512
TOKENIZER_TENSOR = "spiece_model"  # where umt5 files in ComfyUI's layout carry their tokenizer


def check_prompt(field: str, text: str, encoder: Path | None) -> None:
    """Refuse a prompt of more tokens than the encoder takes.

    Args:
        encoder: the text encoder's file, which carries its tokenizer; without one the count is
            an estimate, rather too high than too low.

    Raises:
        InvalidRequest: with the count.
    """
    if len(text.encode()) < MAX_TOKENS:  # a token is a byte at least, and one marks the end
        return
    tokenizer = _tokenizer(encoder) if encoder else None
    count = len(tokenizer.encode(text)) + 1 if tokenizer else _estimate(text)
    if count > MAX_TOKENS:
        about = "" if tokenizer else "about "
        raise InvalidRequest(
            f"{field} has {about}{count} tokens, allowed: {MAX_TOKENS}",
            problems=[{"field": field, "got": count, "allowed": MAX_TOKENS}],
        )


@functools.lru_cache(maxsize=1)
def _tokenizer(encoder: Path) -> sentencepiece.SentencePieceProcessor | None:
    try:
        with safe_open(encoder, framework="numpy") as file:
            if TOKENIZER_TENSOR not in file.keys():  # noqa: SIM118 - not a mapping
                return None
            model = file.get_tensor(TOKENIZER_TENSOR).tobytes()
    except (OSError, SafetensorError):
        return None
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def _estimate(text: str) -> int:
    """Three letters of ASCII to a token, two of another alphabet, one ideograph."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    ascii_ = sum(c.isascii() for c in text)
    return math.ceil(ascii_ / 3 + (len(text) - ascii_ - wide) / 2 + wide) + 1
