"""The batched, cached decoder gives what the plain model gives, token for token."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import InputError
from ivlm_core.bodies import PART_NAMES
from ivlm_core.config import GenerationConfig, load_profile
from ivlm_core.reason import ContactTokenizer, Question, Reasoner, contact_questions
from ivlm_core.reason.image import clip_pixels
from ivlm_core.reason.prompts import SYSTEM, AnswerForm

TOKENIZER = ContactTokenizer()
TINY = load_profile("tiny")
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def make(guided: bool, new_tokens: int) -> Reasoner:
    torch.manual_seed(7)
    profile = dataclasses.replace(TINY, generation=GenerationConfig(new_tokens, guided))
    return Reasoner(profile, TOKENIZER).eval()


@pytest.fixture(scope="module")
def guided() -> Reasoner:
    return make(guided=True, new_tokens=96)


@pytest.fixture(scope="module")
def free() -> Reasoner:
    return make(guided=False, new_tokens=24)


@torch.inference_mode()
def states(reasoner: Reasoner, ids: list[int]) -> torch.Tensor:
    """(T, D) post-norm states of the whole sequence in one pass, without any cache."""
    head = [TOKENIZER.bos, *TOKENIZER.encode(SYSTEM + " USER:"), TOKENIZER.image_start]
    features = reasoner.image_features(clip_pixels(IMAGE, TINY.vision))
    embed = reasoner.llava.get_input_embeddings()
    whole = torch.cat(
        [embed(torch.tensor([head])), features, embed(torch.tensor([[TOKENIZER.image_end, *ids]]))], dim=1
    )
    return reasoner.llava.model.language_model(inputs_embeds=whole, use_cache=False).last_hidden_state[0]


def questions(*labels: str, reasoning: str = "parts") -> list[Question]:
    return [question for label in labels for question in contact_questions(label, PART_NAMES, reasoning)]


@pytest.mark.parametrize("reasoning", ["parts", "direct"])
def test_embedding_is_the_state_that_predicts_the_contact_token(guided, reasoning):
    asked = questions("chair", "a very long-named wooden rocking thing", reasoning=reasoning)
    answers = guided.answer(guided.encode_image(IMAGE), asked)
    for question, answer in zip(asked, answers, strict=True):
        token = "<HCON>" if question.side == "human" else "<OCON>"
        spoken = answer.answer.removesuffix(f" {token}")
        assert spoken != answer.answer
        ids = TOKENIZER.encode(f"\n{question.text} ASSISTANT:") + TOKENIZER.encode(f" {spoken}")
        state = states(guided, ids)[-1]
        with torch.inference_mode():
            expected = guided.projection(state[None])[0]
        torch.testing.assert_close(answer.embedding, expected, atol=1e-5, rtol=1e-4)
        assert 0.0 <= answer.confidence <= 1.0


def test_free_generation_is_plain_greedy_decoding(free):
    asked = questions("chair", "umbrella stand")
    answers = free.answer(free.encode_image(IMAGE), asked)
    for question, answer in zip(asked, answers, strict=True):
        ids = TOKENIZER.encode(f"\n{question.text} ASSISTANT:")
        start = len(ids)
        stop = {TOKENIZER.eos, TOKENIZER.contact[question.side]}
        while len(ids) - start < 24 and ids[-1] not in stop:
            with torch.inference_mode():
                ids.append(int(free.llava.lm_head(states(free, ids)[-1]).argmax()))
        plain = [token for token in ids[start:] if token != TOKENIZER.eos]
        assert answer.answer == TOKENIZER.decode(plain).strip()


def test_no_contact_token_gives_no_embedding(free):
    answers = free.answer(free.encode_image(IMAGE), questions("chair"))
    assert [answer.embedding for answer in answers] == [None, None]


@settings(max_examples=10, deadline=None)
@given(labels=st.lists(st.sampled_from(["chair", "cup", "tennis racket", "椅子", "a b c d e"]), min_size=1, max_size=4))
def test_answers_do_not_depend_on_the_batch(guided, labels):
    prefix = guided.encode_image(IMAGE)
    asked = questions(*labels)
    together = guided.answer(prefix, asked)
    for question, answer in zip(asked, together, strict=True):
        alone = guided.answer(prefix, [question])[0]
        assert alone.answer == answer.answer
        torch.testing.assert_close(alone.embedding, answer.embedding, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module", params=[True, False], ids=["guided", "free"])
def drafting_and_plain(request) -> tuple[Reasoner, Reasoner]:
    """One model twice, with drafts and without."""
    drafting, plain = make(request.param, 40), make(request.param, 40)
    generation = dataclasses.replace(plain.profile.generation, drafts=False)
    plain.profile = dataclasses.replace(plain.profile, generation=generation)
    if not request.param:
        # An untrained model would never write a contact token: make it likely, and likely to differ between pictures.
        for reasoner in (drafting, plain):
            with torch.no_grad():
                rows = reasoner.llava.lm_head.weight
                rows[list(TOKENIZER.contact.values())] += rows[400:403] * 2
    return drafting, plain


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    labels=st.lists(
        st.sampled_from(["chair", "cup", "a b c d", "椅子", "umbrella"]), min_size=1, max_size=4, unique=True
    ),
)
def test_drafts_change_the_passes_and_nothing_else(drafting_and_plain, seed, labels):
    """K = 2…8 questions; a new picture's answers are guessed from those of the last, which was another one."""
    drafting, plain = drafting_and_plain
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(2))
    for image in (first, second, second):
        asked = questions(*labels)
        ours = drafting.answer(drafting.encode_image(image), asked)
        expected = plain.answer(plain.encode_image(image), asked)
        assert drafting.passes <= plain.passes
        for mine, theirs in zip(ours, expected, strict=True):
            assert (mine.answer, mine.branch) == (theirs.answer, theirs.branch)
            assert mine.confidence == pytest.approx(theirs.confidence, rel=1e-3)
            if theirs.embedding is None:
                assert mine.embedding is None
            else:
                torch.testing.assert_close(mine.embedding, theirs.embedding, atol=1e-4, rtol=1e-3)


def test_same_answer_as_last_time_costs_one_pass():
    reasoner = make(guided=True, new_tokens=96)
    asked = questions("chair", "cup")
    reasoner.answer(reasoner.encode_image(IMAGE), asked)
    assert reasoner.passes > 1
    reasoner.answer(reasoner.encode_image(IMAGE), asked)
    assert reasoner.passes == 1


def test_prefix_is_left_as_it_was(guided):
    prefix = guided.encode_image(IMAGE)
    first = guided.answer(prefix, questions("chair"))
    again = guided.answer(prefix, questions("chair"))
    assert first[0].answer == again[0].answer
    torch.testing.assert_close(first[0].embedding, again[0].embedding, atol=0, rtol=0)


def test_image_and_label_both_matter(guided):
    other = np.zeros_like(IMAGE)
    here, there = (guided.answer(guided.encode_image(image), questions("chair"))[0] for image in (IMAGE, other))
    bottle = guided.answer(guided.encode_image(IMAGE), questions("bottle"))[0]
    assert not torch.allclose(here.embedding, there.embedding)
    assert not torch.allclose(here.embedding, bottle.embedding)


def test_kept_system_prompt_follows_the_weights(guided):
    reasoner = make(guided=True, new_tokens=96)
    before = reasoner.answer(reasoner.encode_image(IMAGE), questions("chair", reasoning="direct"))[0]
    reasoner.train()
    with torch.no_grad():
        reasoner.llava.get_input_embeddings().weight.mul_(1.5)
    reasoner.eval()
    after = reasoner.answer(reasoner.encode_image(IMAGE), questions("chair", reasoning="direct"))[0]
    fresh = make(guided=True, new_tokens=96)
    with torch.no_grad():
        fresh.llava.get_input_embeddings().weight.mul_(1.5)
    expected = fresh.answer(fresh.encode_image(IMAGE), questions("chair", reasoning="direct"))[0]
    assert not torch.allclose(before.embedding, after.embedding)
    torch.testing.assert_close(after.embedding, expected.embedding)


def test_question_longer_than_the_model(guided):
    endless = Question("word " * 600, "human", AnswerForm("It is"))
    with pytest.raises(InputError, match="too long"):
        guided.answer(guided.encode_image(IMAGE), [endless])


def test_no_questions_no_answers(guided):
    assert guided.answer(guided.encode_image(IMAGE), []) == []
