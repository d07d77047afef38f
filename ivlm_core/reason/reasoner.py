"""LLaVA with contact tokens: one image prefix, many questions, and an embedding for each answer (paper §3.2)."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ivlm_core.config import Profile
from ivlm_core.errors import CheckpointError, InputError
from ivlm_core.reason.decoding import Continuation, Guess, Row, Step, decode
from ivlm_core.reason.guide import AnswerGuide
from ivlm_core.reason.image import clip_pixels
from ivlm_core.reason.prompts import SYSTEM, Question
from ivlm_core.reason.static_step import StaticSteps
from ivlm_core.reason.stem import ConvolutionStem
from ivlm_core.reason.tokenizer import ContactTokenizer
from ivlm_core.types import ByteArray

# The end-of-sequence id of every LLaMA vocabulary.
LLAMA_END = 2
# Questions whose last answer is kept as the guess for the next frame.
ANSWERS_REMEMBERED = 64


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
        self._memory: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        # Passes through the language model that the last answers took.
        self.passes = 0
        # How a pass is run: fixed keys and values and replayed graphs on CUDA, a growing cache elsewhere.
        self.steps = StaticSteps()

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
        self.steps.release()
        return super().train(mode)

    def forget(self) -> None:
        """Drop the guesses from earlier answers: how far a guess holds can change the last bits of an embedding."""
        self._memory.clear()

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

        With guided decoding the answer's form is given and the model chooses within it. With drafts, an answer that is
        the same as in the last frame costs one pass, whatever its length; what is answered does not depend on them.

        Raises
        ------
        InputError : a question spells a special token, or is longer than the model's positions.
        """
        guided = self.profile.generation.guided
        tokenizer = self.tokenizer
        prompts, guides, guesses, openings = [], [], [], []
        for question in questions:
            opening = tokenizer.encode(" " + question.form.opening)
            prompt = tokenizer.encode_untrusted(f"\n{question.text} ASSISTANT:")
            contact = tokenizer.contact[question.side]
            openings.append(opening if guided else [])
            prompts.append([*prompt, *openings[-1]])
            guides.append(AnswerGuide(question.form, tokenizer, contact) if guided else None)
            guesses.append(self._guess(question, opening, contact))
        written = self.continue_ids(prefix, prompts, guides, guesses)
        for question, answer in zip(questions, written, strict=True):
            self._remember(question, answer)
        return [
            Reasoning(
                tokenizer.decode([*opening, *answer.ids]).strip(),
                self.projection(answer.state[None])[0] if answer.state is not None else None,
                answer.confidence,
                answer.branch,
            )
            for opening, answer in zip(openings, written, strict=True)
        ]

    @torch.inference_mode()
    def continue_ids(
        self,
        prefix: ImagePrefix,
        prompts: Sequence[Sequence[int]],
        guides: Sequence[AnswerGuide | None] | None = None,
        guesses: Sequence[Guess] | None = None,
    ) -> list[Continuation]:
        """Write on greedily behind K prompts of ids, each up to its contact token, the end token, or the budget.

        Raises
        ------
        InputError : a prompt is longer than the model's positions.
        """
        if not prompts:
            return []
        most = self.profile.language.max_positions
        if prefix.length + max(len(prompt) for prompt in prompts) >= most:
            raise InputError("object.label", "makes the question too long for the model", "use a shorter label")
        nothing: list[None] = [None] * len(prompts)
        limit = self.profile.generation.max_new_tokens
        rows = [
            Row(prompt, self.contact_ids, self.end_id, limit, guide, guess)
            for prompt, guide, guess in zip(prompts, guides or nothing, guesses or nothing, strict=True)
        ]
        furthest = min(most, prefix.length + max(map(len, prompts)) + limit)
        model = self.llava.model.language_model
        step = self.steps.start(model, prefix.cache, prefix.length, len(rows), furthest)
        if step is None:
            cache = copy.deepcopy(prefix.cache)
            cache.batch_repeat_interleave(len(rows))
            step = self._growing_step(cache)
        self.passes = decode(step, self.llava.lm_head, rows, prefix.length, most, self.device)
        return [row.result() for row in rows]

    def _growing_step(self, cache: Any) -> Step:
        """The step on keys and values that grow with every pass."""

        def step(ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
            return self.llava.model.language_model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state

        return step

    def _guess(self, question: Question, opening: Sequence[int], contact: int) -> Guess:
        """What the answer will probably say: what it said last time, or else how every answer opens and closes."""
        if not self.profile.generation.drafts:
            return Guess()
        closing = (*self.tokenizer.encode(question.form.closing), contact)
        if question.text in self._memory:
            self._memory.move_to_end(question.text)
            return Guess(self._memory[question.text], closing)
        return Guess(() if self.profile.generation.guided else tuple(opening), closing)

    def _remember(self, question: Question, answer: Continuation) -> None:
        if answer.state is not None and self.profile.generation.drafts:
            self._memory[question.text] = tuple(answer.ids)
            if len(self._memory) > ANSWERS_REMEMBERED:
                self._memory.popitem(last=False)

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
    if vision.stem == "convolution":
        llava.model.vision_tower.embeddings.patch_embedding = ConvolutionStem(vision.hidden_size)
    if vision.projector == "linear":
        llava.model.multi_modal_projector = nn.Linear(vision.hidden_size, language.hidden_size)
    return llava
