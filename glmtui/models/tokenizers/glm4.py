"""The tokenizer of GLM-4-9B in its first layout: a file of base64 byte strings, each with its rank."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex

from glmtui.errors import BadFileError
from glmtui.hub.files import read
from glmtui.hub.model_dir import Family
from glmtui.models.tokenizers.chatglm import TextStream, Tokenizer, check_is_there, encodable, foreign, given
from glmtui.protocol.phrases import _
from glmtui.text.quoting import reason_of

_WORDS = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""What tokens never cross."""
RANKS_BYTES = 8 << 20
"""The longest file of byte strings; the published one has 2.6 MB."""


_RANK = re.compile(rb"[A-Za-z0-9+/]+=* \d+\s")


def has_ranks(file: Path) -> bool:
    """Whether `file` begins as one of byte strings and ranks does, and not as a sentencepiece model."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return _RANK.match(stream.read(256)) is not None


class GLM4Tokenizer(Tokenizer):
    """Byte pairs merged by rank; special ids lie behind the ranks, and none comes from text.

    Args:
        file: ``tokenizer.model``.
        config: the model's ``config.json``, to check that the tokenizer belongs to it.

    Raises:
        UserError: the file is missing, damaged, or does not belong to the model.
    """

    SPECIAL = (
        *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
        *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
    )
    prefix = ("[gMASK]", "<sop>")

    def __init__(self, file: Path, config: Mapping[str, Any]) -> None:
        self.family: Family = "chatglm4"
        check_is_there(file)
        try:
            pairs = [line.split() for line in read(file, RANKS_BYTES).splitlines() if line]
            self._ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
        except (ValueError, binascii.Error) as error:
            message = _("{path} cannot be read: {error}. Download it again.")
            raise BadFileError(message.format(path=file, error=reason_of(error))) from error
        if any(self._ranks.get(bytes((byte,)), -1) < 0 for byte in range(256)):
            message = _("{path} cannot be read: {error}. Download it again.")
            raise BadFileError(message.format(path=file, error=_("it lacks single bytes")))
        self._bytes = {rank: token for token, rank in self._ranks.items()}
        first = max(self._bytes) + 1
        self.special_ids: Mapping[str, int] = {name: first + i for i, name in enumerate(self.SPECIAL)}
        self.vocab_size: int = first + len(self.SPECIAL)
        if self.vocab_size > given(config, "padded_vocab_size", self.vocab_size):
            raise foreign(file, _("it has more tokens than the model"))
        self.eos_id: int = self.special_ids["<|endoftext|>"]
        self._merged = lru_cache(1 << 16)(self._merge)
        self.guard_id: int = self._merged(b"\n")[0]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_merged"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._merged = lru_cache(1 << 16)(self._merge)  # a cache cannot be pickled

    def encode_text(self, text: str) -> list[int]:
        words: Iterator[str] = (found[0] for found in _WORDS.finditer(encodable(text)))
        return [token for word in words for token in self._merged(word.encode())]

    def names(self) -> list[str]:
        """Return each id's bytes as one character each, and the names of the special ones behind them."""
        return [*(self._bytes[rank].decode("latin-1") for rank in sorted(self._bytes)), *self.special_ids]

    def token_bytes(self) -> list[bytes]:
        return [self._bytes.get(token, b"") for token in range(self.vocab_size)]

    def stream(self, *, goes_on: bool = False) -> GLM4Stream:
        return GLM4Stream(self._bytes)

    def _merge(self, word: bytes) -> tuple[int, ...]:
        """Merge neighbours, always those whose pair has the lowest rank, until none has one."""
        complete = self._ranks.get(word)
        if complete is not None:
            return (complete,)
        parts = [word[i : i + 1] for i in range(len(word))]
        while len(parts) > 1:
            ranked = (
                (self._ranks[pair], i)
                for i in range(len(parts) - 1)
                if (pair := parts[i] + parts[i + 1]) in self._ranks
            )
            _rank, at = min(ranked, default=(0, -1))
            if at < 0:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return tuple(self._ranks[part] for part in parts)


class GLM4Stream(TextStream):
    """Decodes one answer token by token."""

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._tokens.get(token, b""))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)
