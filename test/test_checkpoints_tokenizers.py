"""A LLaMA-style sentencepiece model and its added tokens become one tokenizer file that reads text alike."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import CheckpointError
from ivlm_core.checkpoints.tokenizers import convert_tokenizer
from ivlm_core.config import TokenConfig
from ivlm_core.reason.prompts import SYSTEM
from ivlm_core.reason.tokenizer import ContactTokenizer

TOKENS = TokenConfig("[SEG]", "[SEG]", "[SEG]")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A directory as the released ones: `tokenizer.model` and `added_tokens.json`."""
    directory = tmp_path_factory.mktemp("released")
    corpus = [SYSTEM, "Which body parts are in contact with the chair? Segment these contact areas."] * 20
    corpus += ["The contacting body parts are left hand, right hand, and the contact region is here."] * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
    )
    (directory / "tokenizer.model").write_bytes(model.getvalue())
    size = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()
    added = {"[SEG]": size, "<im_start>": size + 1, "<im_end>": size + 2}
    (directory / "added_tokens.json").write_text(json.dumps(added))
    return directory


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory) -> ContactTokenizer:
    target = tmp_path_factory.mktemp("native") / "tokenizer.json"
    assert convert_tokenizer(source, target, TOKENS)
    return ContactTokenizer(target, TOKENS)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["body", "parts", "the", "left", "hand,", "contact", "Öl", "椅子", "x9", "?"]), min_size=1)
)
def test_any_words_are_read_as_sentencepiece_reads_them(source, converted, words):
    pieces = sentencepiece.SentencePieceProcessor(model_proto=(source / "tokenizer.model").read_bytes())
    text = " ".join(words)
    assert converted.encode(text) == pieces.encode(text)


def test_added_tokens_keep_their_ids_and_stand_alone(source, converted):
    added = json.loads((source / "added_tokens.json").read_text())
    assert converted.contact["human"] == added["[SEG]"]
    assert (converted.image_start, converted.image_end) == (added["<im_start>"], added["<im_end>"])
    assert (converted.bos, converted.eos) == (1, 2)
    alone = converted.encode("the contact region is")
    assert converted.encode("the contact region is [SEG]") == [*alone, added["[SEG]"]]


def test_no_tokenizer_files_is_no_error(tmp_path):
    assert not convert_tokenizer(tmp_path, tmp_path / "tokenizer.json", TOKENS)


def test_released_id_that_does_not_fit(source, tmp_path):
    with pytest.raises(CheckpointError, match="the profile 7"):
        convert_tokenizer(source, tmp_path / "tokenizer.json", TokenConfig("[SEG]", "[SEG]", "[SEG]", human_id=7))


def test_missing_contact_token(source, tmp_path):
    with pytest.raises(CheckpointError, match=r"\[HSEG\]"):
        convert_tokenizer(source, tmp_path / "tokenizer.json", TokenConfig("[HSEG]", "[SEG]", "[SEG]"))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 100])
def test_damaged_model(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        convert_tokenizer(tmp_path, tmp_path / "tokenizer.json", TOKENS)


def test_gap_in_the_added_ids(source, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes((source / "tokenizer.model").read_bytes())
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[SEG]": 9999}))
    with pytest.raises(CheckpointError, match="gives \\[SEG\\] id 9999"):
        convert_tokenizer(tmp_path, tmp_path / "tokenizer.json", TOKENS)
