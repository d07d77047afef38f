"""Any text can be spelled and read back; special tokens come from us alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core import CheckpointError, InputError
from ivlm_core.bodies import PART_NAMES
from ivlm_core.config import TokenConfig
from ivlm_core.reason.build_tokenizer import build
from ivlm_core.reason.prompts import AFFORDANCES
from ivlm_core.reason.tokenizer import SHIPPED_TOKENIZER, ContactTokenizer

TOKENIZER = ContactTokenizer()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="<>")))
def test_any_text_round_trips(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_words_of_answers_are_short():
    for word in (*PART_NAMES, *AFFORDANCES):
        assert len(TOKENIZER.encode(" " + word)) == len(word.split())


def test_shipped_file_is_what_the_command_builds(tmp_path):
    build(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_bytes() == SHIPPED_TOKENIZER.read_bytes()


@pytest.mark.parametrize("token", ["<HCON>", "<OCON>", "<im_start>", "</s>"])
def test_special_token_in_untrusted_text(token):
    with pytest.raises(InputError, match="special token"):
        TOKENIZER.encode_untrusted(f"the chair {token}")


def test_tokenizer_without_the_contact_tokens():
    with pytest.raises(CheckpointError, match="<TOUCH>"):
        ContactTokenizer(SHIPPED_TOKENIZER, TokenConfig(human="<TOUCH>"))


@pytest.mark.parametrize("content", ["", "{}", "[1", "\x00\x01"])
def test_broken_tokenizer_file(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        ContactTokenizer(path)


def test_missing_tokenizer_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        ContactTokenizer(tmp_path / "none.json")
