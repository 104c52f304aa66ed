from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from safetensors.numpy import save_file

from talkinghead.errors import InvalidRequest
from talkinghead.plan.prompt import check_prompt

SENTENCE = "a woman speaks calmly into the camera as the sun sets over the sea"
LONG = " ".join([SENTENCE] * 80)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A text encoder's file with a real, small tokenizer in it, as umt5 files have."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([SENTENCE] * 50),
        model_writer=model,
        vocab_size=70,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "umt5.safetensors"
    save_file({"spiece_model": np.frombuffer(model.getvalue(), np.uint8)}, path)
    return path


def test_a_prompt_over_the_encoders_tokens_is_refused_with_the_count(encoder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^prompt has (\d+) tokens, allowed: 512$") as caught:
        check_prompt("prompt", LONG, encoder)
    counted = caught.value.details["problems"][0]["got"]
    assert counted > 512


def test_a_long_prompt_of_few_tokens_passes(encoder: Path) -> None:
    text = " ".join([SENTENCE] * 8)
    assert len(text) > 512
    check_prompt("prompt", text, encoder)


def test_without_the_encoders_file_the_count_is_an_estimate(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="prompt has about"):
        check_prompt("prompt", LONG, None)
    with pytest.raises(InvalidRequest, match="negative_prompt has about"):
        check_prompt("negative_prompt", "说" * 600, tmp_path / "none.safetensors")
    check_prompt("prompt", " ".join([SENTENCE] * 8), None)


def test_an_encoder_without_a_tokenizer_is_estimated_too(tmp_path: Path) -> None:
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "t5.safetensors")
    with pytest.raises(InvalidRequest, match="about"):
        check_prompt("prompt", LONG, tmp_path / "t5.safetensors")
