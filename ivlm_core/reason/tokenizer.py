"""The tokenizer: byte-level, so that any label can be spelled, with the tokens that carry image and contact."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from ivlm_core.config import TokenConfig
from ivlm_core.errors import CheckpointError, InputError
from ivlm_core.storage import file_size

SHIPPED_TOKENIZER = Path(__file__).parent / "data" / "tiny_tokenizer.json"
MAX_TOKENIZER_BYTES = 64 << 20


class ContactTokenizer:
    """Text to ids and back.

    Parameters
    ----------
    path : a `tokenizer.json` of the `tokenizers` library.
    tokens : how the contact tokens are spelled in it.

    Raises
    ------
    CheckpointError : the file is missing, damaged, or lacks one of the tokens.
    """

    def __init__(self, path: Path = SHIPPED_TOKENIZER, tokens: TokenConfig | None = None) -> None:
        tokens = tokens or TokenConfig()
        try:
            if file_size(path) > MAX_TOKENIZER_BYTES:
                raise CheckpointError(str(path), "is larger than 64 MB", "give a tokenizer.json")
            self._tokenizer = Tokenizer.from_file(str(path))
        except OSError as error:
            raise CheckpointError(str(path), f"cannot be read: {error}", "give a tokenizer.json") from error
        except Exception as error:  # the library raises bare Exception for a file it cannot parse
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(str(path), f"is no tokenizer: {error}", "give a tokenizer.json") from error
        self.path = path
        self.bos = self._id("<s>")
        self.eos = self._id("</s>")
        self.image_start = self._id("<im_start>")
        self.image_end = self._id("<im_end>")
        spelling = {"human": tokens.human, "object": tokens.object, "general": tokens.general or tokens.human}
        self._spelled = sorted(set(spelling.values()))
        self.contact = {side: self._id(token) for side, token in spelling.items()}
        for side, expected in tokens.ids().items():
            if self.contact[side] != expected:
                raise CheckpointError(
                    str(path), f"gives {spelling[side]} id {self.contact[side]}, the profile {expected}", "use its own"
                )

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text of our own making, special tokens included."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_untrusted(self, text: str) -> list[int]:
        """Ids of a text that holds words from outside; a special token in it is an error, never a token.

        Raises
        ------
        InputError : the text spells a special token.
        """
        ids = self.encode(text)
        special = {self.bos, self.eos, self.image_start, self.image_end, *self.contact.values()}
        if special.intersection(ids):
            raise InputError("object.label", "spells a special token", "use plain words")
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens spelled out."""
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        for token in self._spelled:
            text = text.replace(token, f" {token}")
        return text

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(str(self.path), f"has no token {token}", "use the tokenizer of this checkpoint")
        return int(found)
