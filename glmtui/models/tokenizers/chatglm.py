"""Text to token ids and back, for the sentencepiece tokenizers of the family. Imports no torch.

What a person types never becomes a control token: ``[gMASK]``, ``<sop>``, ``<|user|>`` are split into
ordinary pieces. ChatGLM-6B's published code writes a newline as ``<n>``, a tab as ``<|tab|>`` and runs of
spaces as ``<|blank_k|>`` before it encodes, so those three typed literally read as the blanks they stand for.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sentencepiece import SentencePieceProcessor

from glmtui import paths
from glmtui.errors import BadFileError, NotFoundError
from glmtui.hub.config import read_config, read_tokenizer_config
from glmtui.hub.files import read
from glmtui.hub.model_dir import (
    TOKENIZER_FILES,
    TRANSFORMERS,
    Family,
    check_not_pointer,
    is_v2,
    recognise,
)
from glmtui.hub.sat import is_sat
from glmtui.models.tokenizers.prompt_text import Control, PromptPart
from glmtui.protocol.phrases import Phrase, _, sentences

PUBLISHED = {
    "ice_text.model": (2706249, "5e974d9a69c242ce014c88c2b26089270f6198f3c0b700a887666cd3e816f17e"),
    "tokenizer.model": (1018370, "e7dc4c393423b76e4373e5157ddc34803a0189ba96b21ddbb40269d31468a6f2"),
}
"""Size in bytes and sha256 of the published files of ChatGLM-6B and of ChatGLM2-6B and ChatGLM3-6B."""

TOKENIZER_BYTES = 16 << 20
"""The longest sentencepiece model; the published ones have up to 2.7 MB."""
_SPACE = "▁"  # how sentencepiece writes a space
_BROKEN = "\ufffd"


class TextStream(Protocol):
    """Decodes one answer token by token."""

    def push(self, token: int) -> str:
        """Return the text that `token` completes, which may be none."""

    def finish(self) -> str:
        """Return what was held back: a replacement character where a character is unfinished."""


class Tokenizer(ABC):
    """What prompts, engine and server need of a tokenizer."""

    family: Family
    vocab_size: int
    eos_id: int
    guard_id: int
    """Taken when the logits are not finite: id 5 in the published code, which is ``▁`` in ChatGLM-6B."""
    special_ids: Mapping[str, int]
    """Control tokens by their published names."""
    prefix: Sequence[str] = ()
    """Control tokens that the published code puts before a prompt."""

    def prompt(self, text: str) -> list[PromptPart]:
        """Return `text` with the control tokens that the published code adds to a prompt."""
        return [*map(Control, self.prefix), text]

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` with the special ids that the published code adds to a prompt."""
        return self.encode_parts(self.prompt(text))

    def encode_parts(self, parts: Iterable[PromptPart]) -> list[int]:
        """Return the ids of a prompt; each of its parts is encoded for itself."""
        ids: list[int] = []
        for part in parts:
            ids += [self.special_ids[part.name]] if isinstance(part, Control) else self.encode_text(part)
        return ids

    @abstractmethod
    def encode_text(self, text: str) -> list[int]:
        """Return the ids of `text` alone."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; control tokens and unknown ids have none."""
        stream = self.stream()
        return "".join(map(stream.push, ids)) + stream.finish()

    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """Return the UTF-8 bytes, or part of them, that each id stands for; control tokens have none."""

    @abstractmethod
    def stream(self, *, goes_on: bool = False) -> TextStream:
        """Return a decoder for one answer, or for what `goes_on` from a text and keeps its first space."""


class StreamDecoder:
    """Decodes one answer of pieces.

    Everything `push` and `finish` return, joined, is what decoding all ids at once gives. A character that
    arrives as several byte tokens is held back until it is complete, and every byte of one that never is
    becomes a replacement character; nothing is ever taken back.
    """

    def __init__(self, pieces: _Pieces, *, goes_on: bool = False) -> None:
        self._pieces = pieces
        self._bytes = bytearray()
        self._strips_space = (pieces.puts_space or pieces.removes_extra_spaces) and not goes_on

    def push(self, token: int) -> str:
        piece = self._pieces.surface(token)
        if isinstance(piece, int):
            self._bytes.append(piece)
            return self._take_characters(final=False)
        return self._take_characters(final=True) + self._take_piece(piece)

    def finish(self) -> str:
        return self._take_characters(final=True)

    def _take_piece(self, piece: str) -> str:
        # As sentencepiece does it: the space that encoding puts before a text goes, and where the model
        # removes extra spaces, so does one from every piece until some text is there.
        if self._strips_space and piece.startswith(_SPACE):
            piece = piece[1:]
            self._strips_space = self._pieces.removes_extra_spaces
        if piece:
            self._strips_space = False
        return piece.replace(_SPACE, " ")

    def _take_characters(self, *, final: bool) -> str:
        text = ""
        while self._bytes:
            length = _utf8_length(self._bytes[0])
            if len(self._bytes) < length and not final:
                break
            try:
                text += self._bytes[:length].decode()
            except UnicodeDecodeError:
                text += _BROKEN
                length = 1
            del self._bytes[:length]
        if text:
            self._strips_space = False
        return text


def _utf8_length(first: int) -> int:
    if first >= 0xC0:
        return 2 if first < 0xE0 else 3 if first < 0xF0 else 4 if first < 0xF8 else 1
    return 1


class _Pieces:
    """A sentencepiece model and what each of its ids says."""

    def __init__(self, model: SentencePieceProcessor, *, special: Mapping[int, str]) -> None:
        self.model = model
        self.puts_space: bool = model.EncodeAsPieces("a")[0].startswith(_SPACE)
        """Whether encoding puts a space before a text; so does every published model."""
        self.removes_extra_spaces: bool = not model.Encode("  ")
        """Whether encoding leaves out spaces at the ends and next to others; so does ChatGLM-6B's model."""
        self._special = special
        self._size = len(model)

    def names(self) -> list[str]:
        """Return what the file calls each of its ids."""
        return [self.model.IdToPiece(token) for token in range(self._size)]

    def spelled(self) -> list[bytes]:
        """Return the bytes of each id."""
        unknown = self.model.unk_id()
        surfaces = ("" if token == unknown else self.surface(token) for token in range(self._size))
        return [
            bytes((each,)) if isinstance(each, int) else each.replace(_SPACE, " ").encode()
            for each in surfaces
        ]

    def surface(self, token: int) -> str | int:
        """Return the text of a piece (spaces as ``▁``), or the value of a byte piece."""
        if token in self._special:
            return self._special[token]
        if not 0 <= token < self._size or self.model.IsControl(token):
            return ""
        if self.model.IsByte(token):
            return int(self.model.IdToPiece(token)[3:5], 16)  # <0xE4>
        piece: str = self.model.IdToPiece(token)
        return piece


class ChatGLMTokenizer(Tokenizer):
    """ChatGLM-6B: unigram pieces, NFKC normalisation, tokens for newline, tab and runs of blanks.

    Args:
        file: ``ice_text.model``, the published one or one in the same layout (the built-in model's).
        config: the model's ``config.json``; what its special ids say goes before everything else.
        num_image_tokens: ids before the first text id when `config` does not tell.

    Raises:
        UserError: the file is missing, damaged, or does not belong to the model.
    """

    family: Family = "chatglm"
    SPECIAL = ("<sop>", "<eop>", "[gMASK]", "[MASK]")

    def __init__(
        self, file: Path, config: Mapping[str, Any] | None = None, num_image_tokens: int = 0
    ) -> None:
        model = _read_model(file)
        config = config or {}
        ids = {name: model.PieceToId(name) for name in self.SPECIAL}
        if any(not model.IsControl(token) for token in ids.values()):
            raise foreign(file, _("it has no <sop>, <eop>, [gMASK] and [MASK]"))
        self.offset: int = given(config, "bos_token_id", ids["<sop>"] + num_image_tokens) - ids["<sop>"]
        """The first release counts 20,000 image tokens before the text."""
        self.special_ids: Mapping[str, int] = {name: ids[name] + self.offset for name in ids}
        self.bos_id: int = ids["<sop>"] + self.offset
        self.eos_id: int = ids["<eop>"] + self.offset
        self.gmask_id: int = ids["[gMASK]"] + self.offset
        self.mask_id: int = ids["[MASK]"] + self.offset
        self.guard_id: int = model.PieceToId(_SPACE) + self.offset
        self.vocab_size: int = len(model) + self.offset
        if self.offset not in (0, 20000) or self.eos_id != given(config, "eos_token_id", self.eos_id):
            raise foreign(file, _("its special tokens have other ids than config.json says"))
        if self.vocab_size > given(config, "vocab_size", self.vocab_size):
            raise foreign(file, _("it has more tokens than the model"))
        blanks = {k: f"<|blank_{k}|>" for k in range(2, 81)}
        special = {"<n>": "\n", "<|tab|>": "\t"} | {name: " " * k for k, name in blanks.items()}
        unknown: int = model.unk_id()
        self._pieces = _Pieces(
            model,
            special={
                token: text
                for name, text in special.items()
                if (token := model.PieceToId(name)) != unknown  # a small vocabulary has fewer of them
            }
            | {unknown: " ⁇ "},
        )
        longest = max((k for k, name in blanks.items() if model.PieceToId(name) != unknown), default=1)
        self._blank_run = re.compile(f" {{2,{longest}}}") if longest > 1 else None

    def prompt(self, text: str) -> list[PromptPart]:
        """Return `text`, then ``[gMASK]`` and ``<sop>``."""
        return [text, Control("[gMASK]"), Control("<sop>")]

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of `text` alone. Fullwidth forms become halfwidth, as they were in training."""
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        if self._blank_run is not None:
            text = self._blank_run.sub(lambda run: f"<|blank_{len(run[0])}|>", text)
        return [token + self.offset for token in self._pieces.model.Encode(encodable(text))]

    def names(self) -> list[str]:
        """Return what each id is called in the file, behind the image tokens where there are any."""
        images = [f"<image_{number}>" for number in range(self.offset)]
        return images + self._pieces.names()

    def token_bytes(self) -> list[bytes]:
        return [b""] * self.offset + self._pieces.spelled()

    def stream(self, *, goes_on: bool = False) -> StreamDecoder:
        if self.offset:
            return _OffsetDecoder(self._pieces, self.offset, goes_on=goes_on)
        return StreamDecoder(self._pieces, goes_on=goes_on)


class VisualGLMTokenizer(ChatGLMTokenizer):
    """VisualGLM-6B: ChatGLM-6B's, with a token in the place of which a picture's rows are put."""

    family: Family = "visualglm"
    FILLER = "<unk>"
    """What the transformers code takes; it counts for the repetition penalty."""

    def __init__(self, file: Path, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(file, config)
        self.special_ids = {**self.special_ids, self.FILLER: self._pieces.model.unk_id() + self.offset}
        self.image_length: int = given(config or {}, "image_length", 32)
        """Tokens that a picture takes."""


class _OffsetDecoder(StreamDecoder):
    def __init__(self, pieces: _Pieces, offset: int, *, goes_on: bool = False) -> None:
        super().__init__(pieces, goes_on=goes_on)
        self._offset = offset

    def push(self, token: int) -> str:
        return super().push(token - self._offset) if token >= self._offset else ""


class ChatGLM2Tokenizer(Tokenizer):
    """ChatGLM2-6B, ChatGLM3-6B and CodeGeeX2-6B: byte-pair pieces, text as it is, special ids behind them.

    Args:
        file: ``tokenizer.model``.
        family: ChatGLM3 has role tokens.
        config: the model's ``config.json``, to check that the tokenizer belongs to it.

    Raises:
        UserError: the file is missing, damaged, or does not belong to the model.
    """

    SPECIAL = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
    prefix = ("[gMASK]", "sop")
    ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")

    def __init__(self, file: Path, family: Family, config: Mapping[str, Any] | None = None) -> None:
        self.family: Family = family
        model = _read_model(file)
        names = (*self.SPECIAL, *(self.ROLES if family == "chatglm3" else ()))
        first = len(model)
        self.special_ids: Mapping[str, int] = {name: first + i for i, name in enumerate(names)}
        self.vocab_size: int = first + len(names)
        self.eos_id: int = model.eos_id()
        self.guard_id = 5
        room = given(config or {}, "padded_vocab_size", self.vocab_size)
        if not 0 <= room - self.vocab_size < 4096:  # embeddings are padded, by far less than that
            raise foreign(
                file, _("it has {count} tokens and the model {room}").format(count=self.vocab_size, room=room)
            )
        self._pieces = _Pieces(model, special={model.unk_id(): ""})
        self.puts_space = self._pieces.puts_space

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of `text` alone. The first stands for the space put before every text."""
        ids: list[int] = self._pieces.model.Encode(encodable(text))
        return ids

    def names(self) -> list[str]:
        """Return what each id is called in the file, and the special ones behind them."""
        return [*self._pieces.names(), *self.special_ids]

    def token_bytes(self) -> list[bytes]:
        return self._pieces.spelled() + [b""] * len(self.special_ids)

    def stream(self, *, goes_on: bool = False) -> StreamDecoder:
        return StreamDecoder(self._pieces, goes_on=goes_on)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load the tokenizer of a model folder; a folder with nothing but the tokenizer's files will do.

    Raises:
        UserError: the file is missing, damaged, or does not belong to the model.
    """
    folder = paths.typed(folder)
    has_config = (folder / "config.json").is_file() or is_sat(folder)
    config = read_config(folder) if has_config else {}
    settings = read_tokenizer_config(folder)
    if config:
        family = recognise(folder, config)
        if family in TRANSFORMERS:
            from glmtui.models.tokenizers.glm_hf import GLMTokenizer

            return GLMTokenizer(folder, family, config)
        if family == "chatglm4":
            from glmtui.models.tokenizers.glm4 import GLM4Tokenizer

            return GLM4Tokenizer(folder / TOKENIZER_FILES[family], config)
    elif not folder.is_dir():
        raise NotFoundError(_("There is no folder {path}").format(path=folder))
    elif (folder / TOKENIZER_FILES["chatglm"]).is_file():
        family = "chatglm"
    else:
        from glmtui.models.tokenizers.glm4 import GLM4Tokenizer, has_ranks

        if has_ranks(folder / TOKENIZER_FILES["chatglm4"]):
            return GLM4Tokenizer(folder / TOKENIZER_FILES["chatglm4"], {})
        family = recognise(folder, {"model_type": "chatglm", "padded_vocab_size": None})
    file = folder / TOKENIZER_FILES[family]
    if family == "visualglm":
        return VisualGLMTokenizer(file, config)
    if family == "chatglm":
        # Only the first release lacks the entry, and it has the image tokens.
        return ChatGLMTokenizer(file, config, given(settings, "num_image_tokens", 20000 if settings else 0))
    return ChatGLM2Tokenizer(file, family, config if is_v2(config) else None)


def given(config: Mapping[str, Any], name: str, usual: int) -> int:
    """Return what `config` says of `name`, `usual` where it says nothing or null."""
    value: int | None = config.get(name)
    return usual if value is None else value


def check_is_there(file: Path) -> None:
    """Raise UserError where a tokenizer's file is missing, or only a Git-LFS pointer."""
    if not file.exists():
        raise NotFoundError(
            _(
                "{path} is missing: without it the model can read and write no text. Put the file of the "
                "same release next to the weights."
            ).format(path=file)
        )
    check_not_pointer(file)


def _read_model(file: Path) -> SentencePieceProcessor:
    check_is_there(file)
    content = read(file, TOKENIZER_BYTES)
    model = SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(content)
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter where it quotes what is damaged
        message = _("{path} is damaged: it has {size} bytes and the sha256 {sha}.").format(
            path=file, size=len(content), sha=hashlib.sha256(content).hexdigest()
        )
        size, sha = PUBLISHED.get(file.name, (0, ""))
        if sha:
            there = _("The published file has {size} bytes and {sha}.").format(size=size, sha=sha)
            message = sentences(message, there)
        raise BadFileError(sentences(message, _("Download it again."))) from error
    return model


def foreign(file: Path, reason: Phrase) -> BadFileError:
    """Return the error that `file` was made for another model."""
    return BadFileError(
        _(
            "{path} does not belong to this model: {reason}. Take weights, config.json and tokenizer from "
            "the same release."
        ).format(path=file, reason=reason)
    )


def encodable(text: str) -> str:
    """Replace lone surrogates, which terminals deliver for broken input and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()
