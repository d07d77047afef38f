"""LLaVA with contact tokens: one image prefix, many questions, and an embedding for each answer (paper §3.2)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ivlm_core.config import Profile
from ivlm_core.errors import CheckpointError, InputError
from ivlm_core.reason.guide import AnswerGuide
from ivlm_core.reason.image import clip_pixels
from ivlm_core.reason.prompts import SYSTEM, Question
from ivlm_core.reason.tokenizer import ContactTokenizer
from ivlm_core.types import ByteArray

# The end-of-sequence id of every LLaMA vocabulary.
LLAMA_END = 2


@dataclass(frozen=True)
class ImagePrefix:
    """The keys and values of system prompt and image, computed once and shared by all questions about the image."""

    cache: Any
    length: int


@dataclass(frozen=True)
class Reasoning:
    """One answer.

    Attributes
    ----------
    answer : the model's sentence, up to and with its contact token.
    embedding : (D,) what the contact token asks the localizer for (Γ of the hidden state that predicts the token);
        None when the model gave no contact token.
    confidence : geometric mean of the probabilities that the model itself gave to the tokens it chose, the contact
        token among them; tokens that guided decoding left no choice about do not count.
    branch : the side whose contact token ended the answer: `human`, `object` or `general`.
    """

    answer: str
    embedding: Tensor | None
    confidence: float
    branch: str = "human"


@dataclass(frozen=True)
class Continuation:
    """What the model wrote behind one prompt.

    Attributes
    ----------
    ids : the tokens it took, the contact token included, the end token not.
    state : (D,) the hidden state that predicted the contact token; None when it wrote none.
    branch : the side whose contact token it was: `human`, `object` or `general`.
    confidence : see `Reasoning`.
    """

    ids: list[int]
    state: Tensor | None
    branch: str
    confidence: float


class Reasoner(nn.Module):
    """The vision-language model and the projection Γ of its contact tokens.

    Parameters
    ----------
    profile : sizes and choices.
    tokenizer : spells the prompts; None for a model that is only ever given ids.
    """

    def __init__(self, profile: Profile, tokenizer: ContactTokenizer | None) -> None:
        super().__init__()
        self.profile = profile
        self._tokenizer = tokenizer
        self.contact_ids = tokenizer.contact if tokenizer else profile.tokens.ids()
        self.end_id = tokenizer.eos if tokenizer else LLAMA_END
        self.llava = _build_llava(profile, profile.language.vocabulary or len(self.tokenizer))
        width = profile.language.hidden_size
        self.projection = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, profile.sam.prompt_dim), nn.Dropout(0.0)
        )
        self._system: ImagePrefix | None = None

    @property
    def tokenizer(self) -> ContactTokenizer:
        """The tokenizer.

        Raises
        ------
        CheckpointError : the model came without one.
        """
        if self._tokenizer is None:
            raise CheckpointError("tokenizer.json", "is missing", "convert the checkpoint with its tokenizer files")
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        return self.llava.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.llava.lm_head.weight.dtype

    def train(self, mode: bool = True) -> Reasoner:
        # Whatever trains or moves the weights makes the kept system prompt wrong.
        self._system = None
        return super().train(mode)

    @torch.inference_mode()
    def encode_image(self, image: ByteArray) -> ImagePrefix:
        """Run system prompt and image through the model, once per image.

        Parameters
        ----------
        image : (H, W, 3) uint8 RGB.
        """
        if self._system is None:
            ids = [self.tokenizer.bos, *self.tokenizer.encode(SYSTEM + " USER:"), self.tokenizer.image_start]
            self._system = self._extend(None, self._embed(ids))
        pixels = clip_pixels(image, self.profile.vision).to(self.device, self.dtype)
        return self._with_image(self._system, pixels, [self.tokenizer.image_end])

    @torch.inference_mode()
    def encode_ids(self, before: Sequence[int], pixels: Tensor, behind: Sequence[int]) -> ImagePrefix:
        """The prefix of given ids: `before`, the (1, 3, S, S) normalised image, `behind`."""
        start = self._extend(None, self._embed(before))
        return self._with_image(start, pixels.to(self.device, self.dtype), behind)

    def _with_image(self, start: ImagePrefix, pixels: Tensor, behind: Sequence[int]) -> ImagePrefix:
        features = self.image_features(pixels)  # (1, P, D)
        return self._extend(start, torch.cat([features, self._embed(behind)], dim=1))

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels → (B, P, D) patch features in the language model's width."""
        return torch.stack(list(self.llava.get_image_features(pixel_values=pixels).pooler_output))

    @torch.inference_mode()
    def answer(self, prefix: ImagePrefix, questions: Sequence[Question]) -> list[Reasoning]:
        """Answer K questions about one image in one batch, greedily, each up to its contact token.

        With guided decoding the answer's form is given and the model chooses within it; words that leave no choice
        are read in one step, and an answer without choices costs no step beyond reading the question.

        Raises
        ------
        InputError : a question spells a special token, or is longer than the model's positions.
        """
        guided = self.profile.generation.guided
        tokenizer = self.tokenizer
        openings = [tokenizer.encode(" " + question.form.opening) if guided else [] for question in questions]
        prompts = [
            [*tokenizer.encode_untrusted(f"\n{question.text} ASSISTANT:"), *opening]
            for question, opening in zip(questions, openings, strict=True)
        ]
        guides = [
            AnswerGuide(question.form, tokenizer, tokenizer.contact[question.side]) if guided else None
            for question in questions
        ]
        return [
            Reasoning(
                tokenizer.decode([*opening, *written.ids]).strip(),
                self.projection(written.state[None])[0] if written.state is not None else None,
                written.confidence,
                written.branch,
            )
            for opening, written in zip(openings, self.continue_ids(prefix, prompts, guides), strict=True)
        ]

    @torch.inference_mode()
    def continue_ids(
        self,
        prefix: ImagePrefix,
        prompts: Sequence[Sequence[int]],
        guides: Sequence[AnswerGuide | None] | None = None,
    ) -> list[Continuation]:
        """Write on greedily behind K prompts of ids, each up to its contact token, the end token, or the budget.

        Raises
        ------
        InputError : a prompt is longer than the model's positions.
        """
        if not prompts:
            return []
        rows = [
            _Row(prompt, self.contact_ids, self.end_id, guide)
            for prompt, guide in zip(prompts, guides or [None] * len(prompts), strict=True)
        ]
        room = self.profile.language.max_positions - prefix.length
        if max(len(row.ahead) for row in rows) + 1 >= room:
            raise InputError("object.label", "makes the question too long for the model", "use a shorter label")
        cache = copy.deepcopy(prefix.cache)
        cache.batch_repeat_interleave(len(rows))
        mask = torch.ones(len(rows), prefix.length, dtype=torch.long, device=self.device)
        used = [prefix.length] * len(rows)
        budget = self.profile.generation.max_new_tokens
        while not all(row.ended for row in rows) and budget > 0 and max(used) < prefix.length + room - 1:
            chunk = self._chunk([row.ahead for row in rows], used)
            mask = torch.cat([mask, chunk.mask], dim=1)
            hidden = self._forward(chunk.ids, mask, chunk.positions, cache)
            used = [length + len(row.ahead) for length, row in zip(used, rows, strict=True)]
            log_probabilities = self.llava.lm_head(hidden).float().log_softmax(-1)  # (K, vocabulary)
            for index, row in enumerate(rows):
                row.choose(log_probabilities[index], hidden[index])
            budget -= max(1, max(len(row.ahead) for row in rows))
        return [row.result() for row in rows]

    def _chunk(self, sequences: Sequence[Sequence[int]], used: Sequence[int]) -> _Chunk:
        """Tokens of unequal number per row, padded in front, so that the last column is each row's newest token."""
        width = max(len(sequence) for sequence in sequences)
        padding = torch.tensor([[width - len(sequence)] for sequence in sequences])
        ids = torch.tensor([[self.end_id] * (width - len(sequence)) + list(sequence) for sequence in sequences])
        offsets = torch.arange(width)[None] - padding
        positions = torch.tensor(used)[:, None] + offsets.clamp(min=0)
        return _Chunk(ids.to(self.device), (offsets >= 0).long().to(self.device), positions.to(self.device))

    def _embed(self, ids: Sequence[int]) -> Tensor:
        """(1, T, D) embeddings of token ids."""
        return self.llava.get_input_embeddings()(torch.tensor([list(ids)], device=self.device))

    def _extend(self, prefix: ImagePrefix | None, embeddings: Tensor) -> ImagePrefix:
        """The prefix with (1, T, D) more embeddings behind it; `prefix` itself is left as it was."""
        start = prefix.length if prefix else 0
        positions = torch.arange(start, start + embeddings.shape[1], device=self.device)[None]
        output = self.llava.model.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            past_key_values=copy.deepcopy(prefix.cache) if prefix else None,
            use_cache=True,
        )
        return ImagePrefix(output.past_key_values, start + embeddings.shape[1])

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """(K, D) post-norm hidden states of the last position; the cache grows in place."""
        output = self.llava.model.language_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return output.last_hidden_state[:, -1]


@dataclass(frozen=True)
class _Chunk:
    """(K, T) ids, their mask (0 where padded) and their positions."""

    ids: Tensor
    mask: Tensor
    positions: Tensor


class _Row:
    """One answer while it is decoded; `ahead` holds the tokens the model must read next."""

    def __init__(
        self, prompt: Sequence[int], contact_ids: Mapping[str, int], end_id: int, guide: AnswerGuide | None
    ) -> None:
        self._contact_ids = contact_ids
        self._end_id = end_id
        self._guide = guide
        self._written: list[int] = []
        self._log_probabilities: list[float] = []
        self._state: Tensor | None = None
        self.ahead = list(prompt)
        self.ended = False

    def choose(self, log_probabilities: Tensor, state: Tensor) -> None:
        """Take the best next token, and with it all that must follow; at the contact token keep the state and end.

        Parameters
        ----------
        log_probabilities : (vocabulary,) of the next token.
        state : (D,) the hidden state that predicts it.
        """
        if self.ended:
            self.ahead = [self._end_id]
            return
        if self._guide is None:
            token = int(log_probabilities.argmax())
        else:
            allowed = sorted(self._guide.allowed())
            token = allowed[int(log_probabilities[allowed].argmax())]
            self._guide.feed(token)
        self._log_probabilities.append(float(log_probabilities[token]))
        self.ahead = [token]
        if token in self._contact_ids.values():
            self._state = state
            self.ended = True
        elif token == self._end_id:
            self.ended = True
            return
        elif self._guide is not None:
            self.ahead += self._forced(self._guide)
        self._written += self.ahead

    def _forced(self, guide: AnswerGuide) -> list[int]:
        """The tokens that leave no choice, up to but without the contact token, whose state is still to come."""
        forced: list[int] = []
        while len(allowed := guide.allowed()) == 1 and not allowed & set(self._contact_ids.values()):
            forced += allowed
            guide.feed(forced[-1])
        return forced

    def result(self) -> Continuation:
        mean = sum(self._log_probabilities) / max(1, len(self._log_probabilities))
        # Where two sides share one token the human side is meant, as in the released model.
        sides = [side for side, token in self._contact_ids.items() if token in self._written[-1:]]
        return Continuation(self._written, self._state, sides[0] if sides else "general", math.exp(mean))


def _build_llava(profile: Profile, vocabulary: int) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    language, vision = profile.language, profile.vision
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_size=vision.hidden_size,
            num_hidden_layers=vision.layers,
            num_attention_heads=vision.heads,
            intermediate_size=vision.intermediate_size,
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=language.hidden_size,
            num_hidden_layers=language.layers,
            num_attention_heads=language.heads,
            num_key_value_heads=language.heads,
            intermediate_size=language.intermediate_size,
            max_position_embeddings=language.max_positions,
            rms_norm_eps=language.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": language.rope_theta},
            tie_word_embeddings=False,
        ),
        # The image is given as embeddings, never as a token in the text.
        image_token_index=0,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_layer=vision.select_layer,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    llava = LlavaForConditionalGeneration(config)
    if vision.projector == "linear":
        llava.model.multi_modal_projector = nn.Linear(vision.hidden_size, language.hidden_size)
    return llava
