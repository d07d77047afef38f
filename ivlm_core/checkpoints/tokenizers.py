"""The released LLaMA tokenizer files become one `tokenizer.json`, with the contact tokens and their released ids."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from ivlm_core.checkpoints.released import read_json
from ivlm_core.config import TokenConfig
from ivlm_core.errors import CheckpointError
from ivlm_core.reason.tokenizer import MAX_TOKENIZER_BYTES, ContactTokenizer
from ivlm_core.storage import atomic_path

SPIECE, READY, ADDED = "tokenizer.model", "tokenizer.json", "added_tokens.json"


def convert_tokenizer(source: Path, target: Path, tokens: TokenConfig) -> bool:
    """Write `target` from the tokenizer files in `source`; False where there are none.

    The released model reads every chunk around a special token by itself, with sentencepiece's leading space, and
    drops the spaces beside special tokens; the normaliser and the added tokens written here do the same.

    Raises
    ------
    CheckpointError : a damaged file, or one that lacks the contact tokens or gives them other ids.
    """
    if (source / READY).is_file():
        ContactTokenizer(source / READY, tokens)
        shutil.copyfile(source / READY, target)
        return True
    if not (source / SPIECE).is_file():
        return False
    tokenizer = _from_sentencepiece(source / SPIECE)
    added = read_json(source / ADDED) if (source / ADDED).is_file() else {}
    for token, number in sorted(added.items(), key=lambda pair: pair[1]):
        if number != tokenizer.get_vocab_size():
            raise CheckpointError(
                str(source / ADDED), f"gives {token} id {number}, not {tokenizer.get_vocab_size()}", "restore the file"
            )
        tokenizer.add_special_tokens([AddedToken(token, lstrip=True, rstrip=True, special=True, normalized=False)])
    with atomic_path(target) as temporary:
        tokenizer.save(str(temporary), pretty=False)
    ContactTokenizer(target, tokens)
    return True


def _from_sentencepiece(path: Path) -> Tokenizer:
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise CheckpointError(str(path), "is larger than 64 MB", "give the released tokenizer.model")
    from sentencepiece import SentencePieceProcessor

    try:
        pieces = SentencePieceProcessor(model_proto=path.read_bytes())
    except (RuntimeError, OSError) as error:
        raise CheckpointError(str(path), f"is damaged: {error}", "copy it again") from error
    if pieces.get_piece_size() == 0 or pieces.unk_id() < 0:
        raise CheckpointError(str(path), "holds no vocabulary", "copy it again")
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            _merges(pieces, vocabulary),
            unk_token=pieces.id_to_piece(pieces.unk_id()),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    control = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size()) if pieces.is_control(number)]
    unknown = pieces.id_to_piece(pieces.unk_id())
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in [unknown, *control]])
    return tokenizer


def _merges(pieces: Any, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """The merges that a sentencepiece BPE model implies: every way to split a piece into two, best pieces first."""
    found = []
    for piece, number in vocabulary.items():
        if pieces.is_control(number) or pieces.is_unknown(number) or pieces.is_byte(number):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-pieces.get_score(number), vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]
