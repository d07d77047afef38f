"""Packing: every question gets the states it would get if it were asked alone, in inference's own order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ivlm_core.config import LanguageConfig, VisionConfig, load_profile
from ivlm_core.reason import ContactTokenizer, Reasoner
from ivlm_core.reason.prompts import SYSTEM
from ivlm_core.train.conversation import Conversation, ConversationStyle, Exchange, Fact
from ivlm_core.train.packing import pack, packed_states


@pytest.fixture(scope="module")
def reasoner() -> Reasoner:
    profile = replace(
        load_profile("tiny"),
        language=LanguageConfig(hidden_size=32, layers=2, heads=2, intermediate_size=48, max_positions=256),
        vision=VisionConfig(
            image_size=32,
            patch_size=16,
            hidden_size=32,
            layers=1,
            heads=2,
            intermediate_size=48,
            select_layer=-1,
            stem="convolution",
        ),
    )
    torch.manual_seed(0)
    return Reasoner(profile, ContactTokenizer()).eval()


def _exchanges(reasoner: Reasoner) -> list[list[Exchange]]:
    conversation = Conversation(reasoner.tokenizer, ConversationStyle(direct=0, paraphrase=0, part_dropout=0))
    random = np.random.default_rng(0)
    chair = Fact("chair", ("hips", "left hand"), "sit")
    ball = Fact("sports ball", (), "grasp")
    return [
        [conversation.exchange(chair, "human", random), conversation.exchange(ball, "human", random)],
        [conversation.exchange(chair, "object", random)],
    ]


def test_states_are_those_of_each_question_asked_alone(reasoner: Reasoner) -> None:
    tokenizer = reasoner.tokenizer
    exchanges = _exchanges(reasoner)
    before = [tokenizer.bos, *tokenizer.encode(SYSTEM + " USER:"), tokenizer.image_start]
    batch = pack(exchanges, len(before), 4, tokenizer.image_end, 256)
    pixels = torch.randn(2, 3, 32, 32)
    embed, language = reasoner.llava.get_input_embeddings(), reasoner.llava.model.language_model
    with torch.no_grad():
        rest = torch.cat([reasoner.image_features(pixels), embed(batch.ids)], dim=1)
        states = packed_states(language, embed(torch.tensor([before])), rest, batch)
        number = 0
        for row, items in enumerate(exchanges):
            prefix = reasoner.encode_ids(before, pixels[row : row + 1], [tokenizer.image_end])
            taken = 0
            for item in items:
                ids = list(item.ids)
                sequence = torch.cat(
                    [
                        embed(torch.tensor([before])),
                        reasoner.image_features(pixels[row : row + 1]),
                        embed(torch.tensor([[tokenizer.image_end, *ids]])),
                    ],
                    dim=1,
                )
                expected = language(inputs_embeds=sequence, use_cache=False).last_hidden_state[0]
                first = int(np.flatnonzero(item.weights)[0])
                assert batch.openings[number].tolist() == [row, taken]
                for token in range(first, len(ids)):
                    torch.testing.assert_close(
                        states[row, taken], expected[prefix.length + token - 1], rtol=1e-4, atol=1e-5
                    )
                    assert int(batch.targets[row, taken]) == ids[token]
                    taken += 1
                if item.state >= 0:
                    place = batch.states[batch.query.tolist().index(number)]
                    torch.testing.assert_close(
                        states[tuple(place)], expected[prefix.length + item.state], rtol=1e-4, atol=1e-5
                    )
                number += 1


def test_answers_are_what_guided_decoding_would_write(reasoner: Reasoner) -> None:
    from ivlm_core.bodies import PART_NAMES
    from ivlm_core.reason import contact_questions
    from ivlm_core.reason.guide import AnswerGuide

    tokenizer = reasoner.tokenizer
    question = contact_questions("chair", PART_NAMES)[0]
    item = _exchanges(reasoner)[0][0]
    prompt = tokenizer.encode(f"\n{question.text} ASSISTANT:")
    opening = tokenizer.encode(" " + question.form.opening)
    assert list(item.ids[: len(prompt) + len(opening)]) == [*prompt, *opening]
    guide = AnswerGuide(question.form, tokenizer, tokenizer.contact["human"])
    for token in item.ids[len(prompt) + len(opening) :]:
        guide.feed(token)
    assert guide.allowed() == set()


def test_a_question_beyond_the_models_positions_is_refused(reasoner: Reasoner) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack(_exchanges(reasoner), 30, 4, 4, 60)
