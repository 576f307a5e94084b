"""The tokenizers of GLM-4-9B and later, through transformers.

What a person types never becomes a control token: special tokens are looked for in what the chat template
writes, not in what is said. `GLMTokenizer.shield` marks them in a message before the template gets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmtui.errors import BadFileError, BadValueError, UserError
from glmtui.hub.files import JSON_BYTES, check_regular, read, utf8_name
from glmtui.hub.model_dir import TOKENIZER_FILES, Family
from glmtui.models.tokenizers.chatglm import (
    TextStream,
    Tokenizer,
    check_is_there,
    encodable,
    foreign,
    given,
)
from glmtui.models.tokenizers.prompt_text import CLOSE, OPEN, Control, PromptPart, without_marks
from glmtui.protocol.phrases import _
from glmtui.text.quoting import reason_of

TOKENIZER_BYTES = 64 << 20
"""The longest ``tokenizer.json``; GLM-4's has 20 MB."""

_SHIELDED = re.compile(f"{OPEN}(\\d+){CLOSE}")
_PREFIX = re.compile(rb'"continuing_subword_prefix"\s*:\s*"[^"]')
"""No tokenizer of bytes has one."""
_THOUGHT = ("<think>", "</think>")
"""Marks that are shown as text even where they are special tokens: they tell thought from answer."""


class GLMTokenizer(Tokenizer):
    """A byte-level byte-pair tokenizer in transformers' format, with a chat template.

    Args:
        folder: the model's; ``tokenizer.json`` and ``tokenizer_config.json`` are read.
        family: of the model.
        config: its ``config.json``, to check that the tokenizer belongs to it.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the model.
    """

    def __init__(self, folder: Path, family: Family, config: Mapping[str, Any]) -> None:
        from transformers import AutoTokenizer

        self.family: Family = family
        file = folder / TOKENIZER_FILES[family]
        check_is_there(file)
        _check_settings(folder)
        _check_prefix(file)
        with _parsed(file), utf8_name(folder) as named:
            self._wrapped = AutoTokenizer.from_pretrained(
                named, local_files_only=True, trust_remote_code=False
            )
            self._read(file, config)

    def _read(self, file: Path, config: Mapping[str, Any]) -> None:
        wrapped = self._wrapped
        self._backend = wrapped.backend_tokenizer
        self._backend.encode_special_tokens = True  # `<|user|>` in a text is text
        self.vocab_size: int = len(wrapped)
        if self.vocab_size > given(config, "vocab_size", self.vocab_size):
            raise foreign(file, _("it has more tokens than the model"))
        added = self._backend.get_added_tokens_decoder()
        self.special_ids: Mapping[str, int] = {
            token.content: number for number, token in added.items() if token.special
        }
        self._special: Mapping[int, str] = {number: name for name, number in self.special_ids.items()}
        self._names = list(self.special_ids)
        longest_first = sorted(map(re.escape, self._names), key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(longest_first) or '(?!)'})")
        self.eos_id: int = -1 if wrapped.eos_token_id is None else wrapped.eos_token_id
        before = self._backend.encode("").ids  # what the tokenizer itself puts before every text
        self.prefix = [self._special[token] for token in before if token in self._special]
        newline = self.encode_text("\n")
        self.guard_id = newline[0] if newline else 0

    @property
    def template(self) -> str:
        """The chat template; empty where the folder has none, as with base models."""
        template = self._wrapped.chat_template
        return template if isinstance(template, str) else ""

    def render(self, messages: list[dict[str, Any]], *, asks: bool) -> str:
        """Return the prompt that the template makes of `messages`, ready for the answer if it `asks` for one.

        Raises:
            UserError: the template does not take such a conversation.
        """
        from jinja2 import TemplateError

        from glmtui.models.chat_formats import sandbox

        variables = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": asks}
        try:
            return sandbox.render(self.template, {**self._wrapped.special_tokens_map, **variables})
        except TemplateError as error:
            message = _("The model's chat template does not take this conversation: {error}")
            raise BadValueError(message.format(error=reason_of(error))) from error

    def shield(self, text: str) -> str:
        """Return `text` so that `rendered` takes no special token from it."""
        return self._pattern.sub(
            lambda found: f"{OPEN}{self._names.index(found[0])}{CLOSE}", without_marks(text)
        )

    def rendered(self, prompt: str) -> list[PromptPart]:
        """Return what `render` made in parts, whose special tokens are tokens."""
        pieces = enumerate(self._pattern.split(prompt))
        return [Control(piece) if place % 2 else self._unshielded(piece) for place, piece in pieces]

    def _unshielded(self, text: str) -> str:
        return _SHIELDED.sub(lambda found: self._names[int(found[1])], text)

    def encode_text(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(encodable(text), add_special_tokens=False).ids
        return ids

    def token_bytes(self) -> list[bytes]:
        """In the file every byte is one character: a printable one itself."""
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in set(printable)]
        values = {chr(byte): byte for byte in printable}
        values |= {chr(256 + place): byte for place, byte in enumerate(others)}

        def said(token: int) -> bytes:
            name = self._special.get(token)
            if name is not None:
                return name.encode() if name in _THOUGHT else b""
            text = self._backend.id_to_token(token) or ""
            known = all(character in values for character in text)
            return bytes(values[character] for character in text) if known else text.encode()

        return [said(token) for token in range(self.vocab_size)]

    def stream(self, *, goes_on: bool = False) -> GLMStream:
        return GLMStream(self._backend, self._special)


def _check_settings(folder: Path) -> None:
    """Raise UserError where transformers would open what is no regular file, or is longer than any is."""
    for file in (*folder.iterdir(), *folder.glob("additional_chat_templates/*")):
        if file.suffix in (".json", ".jinja", ".txt", ".model") and file.exists():
            limit = TOKENIZER_BYTES if file.name in TOKENIZER_FILES.values() else JSON_BYTES
            check_regular(file, limit)


def _check_prefix(file: Path) -> None:
    """Refuse what makes the parser of tokenizers 0.23 panic, which it says on standard error by itself."""
    if file.suffix == ".json" and _PREFIX.search(read(file, TOKENIZER_BYTES)):
        message = _("{path} cannot be read: {error}. Download it again.")
        raise BadFileError(message.format(path=file, error="continuing_subword_prefix"))


@contextmanager
def _parsed(file: Path) -> Iterator[None]:
    """Turn whatever is raised over a tokenizer's file into a `BadFileError`."""
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of its parser, which is written in Rust, is no Exception
        if type(error).__name__.startswith("StrictDataclass"):  # of the config, which it looks at too
            file = file.with_name("config.json")
        message = _("{path} cannot be read: {error}. Download it again.")
        raise BadFileError(message.format(path=file, error=reason_of(error))) from error


class GLMStream(TextStream):
    """Decodes one answer token by token."""

    def __init__(self, backend: Any, special: Mapping[int, str]) -> None:
        from tokenizers.decoders import DecodeStream

        self._backend = backend
        self._special = special
        self._new_stream = DecodeStream
        self._stream = DecodeStream()
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        if token in self._special:
            name = self._special[token]
            return self.finish() + (name if name in _THOUGHT else "")
        if self._backend.id_to_token(token) is None:  # a row of the embedding that pads it
            return self.finish()
        self._pending.append(token)
        text: str | None = self._stream.step(self._backend, token)
        if text is None:
            return ""
        self._pending.clear()
        return text

    def finish(self) -> str:
        text: str = self._backend.decode(self._pending, skip_special_tokens=False) if self._pending else ""
        self._pending.clear()
        self._stream = self._new_stream()
        return text
