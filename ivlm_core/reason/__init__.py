"""The vision-language model reasons about the image; its contact tokens carry what the localizer is asked for."""

from ivlm_core.reason.decoding import Continuation
from ivlm_core.reason.image import clip_pixels
from ivlm_core.reason.lora import attach_lora, merge_lora
from ivlm_core.reason.people import pictures_of_people
from ivlm_core.reason.prompts import AFFORDANCES, Question, affordance_in, contact_questions, mode_questions
from ivlm_core.reason.quantize import quantize_language_model
from ivlm_core.reason.reasoner import ImagePrefix, Reasoner, Reasoning
from ivlm_core.reason.tokenizer import ContactTokenizer

__all__ = [
    "AFFORDANCES",
    "ContactTokenizer",
    "Continuation",
    "ImagePrefix",
    "Question",
    "Reasoner",
    "Reasoning",
    "affordance_in",
    "attach_lora",
    "clip_pixels",
    "contact_questions",
    "merge_lora",
    "mode_questions",
    "pictures_of_people",
    "quantize_language_model",
]
