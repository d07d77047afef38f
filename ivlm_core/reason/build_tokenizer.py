"""Build the shipped tokenizer: `python -m ivlm_core.reason.build_tokenizer` (same file every time)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from ivlm_core.bodies import PART_NAMES
from ivlm_core.reason.prompts import SYSTEM, contact_questions
from ivlm_core.reason.tokenizer import SHIPPED_TOKENIZER
from ivlm_core.storage import atomic_path

VOCABULARY_SIZE = 2048
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<im_start>", "<im_end>", "<HCON>", "<OCON>")

# The objects of COCO and of the contact data sets, so that each is one or two tokens; others are spelled in bytes.
OBJECTS = """
airplane apple backpack banana baseball bat baseball glove bear bed bench bicycle bird boat book bottle bowl box
broccoli bus cake car carrot cat cell phone chair clock couch cow cup dining table dog donut elephant fire hydrant
fork frisbee giraffe hair drier handbag horse hot dog keyboard kite knife laptop microwave motorcycle mouse orange
oven parking meter pizza potted plant refrigerator remote sandwich scissors sheep sink skateboard skis snowboard
spoon sports ball stop sign suitcase surfboard teddy bear tennis racket tie toaster toilet toothbrush traffic light
train truck umbrella vase wine glass zebra table ball mug phone sofa desk stool earphone display faucet hat helmet
door dishwasher storage furniture trash can scene ground floor wall space suit person guitar hammer broom basket
""".split()


def corpus() -> Iterator[str]:
    """Every sentence the model is asked or answers, over all objects."""
    yield SYSTEM
    for label in OBJECTS:
        for reasoning in ("parts", "direct"):
            for question in contact_questions(label, PART_NAMES, reasoning):
                yield f" USER: {question.text} ASSISTANT: {question.form.opening}{question.form.closing}"
                yield from (f"{question.form.opening} {choice}, {choice}" for choice in question.form.choices)


def build(target: Path = SHIPPED_TOKENIZER) -> int:
    """Write the tokenizer and return the size of its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(token, lstrip=True, special=True) for token in SPECIAL_TOKENS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    with atomic_path(target) as temporary:
        tokenizer.save(str(temporary), pretty=False)
    return tokenizer.get_vocab_size()


if __name__ == "__main__":
    print(f"{SHIPPED_TOKENIZER}: {build()} tokens")
