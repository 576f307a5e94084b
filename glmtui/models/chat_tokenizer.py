"""A model's tokenizer together with its way of writing conversations. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from pathlib import Path

from glmtui.errors import BadValueError
from glmtui.models.chat_formats import formats
from glmtui.models.tokenizers import chatglm as tokenizers
from glmtui.protocol.phrases import _


class ChatTokenizer:
    """Text and conversations to token ids, and back. Made by `glmtui.load_tokenizer`."""

    def __init__(self, raw: tokenizers.Tokenizer) -> None:
        self.raw = raw
        """The family's own tokenizer."""
        self.format = formats.chat_format(raw)
        """How the family writes a conversation."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` with the special ids that the published code adds to a prompt.

        Raises:
            BadValueError: it is no text.
        """
        return self.raw.encode(_text(text))

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of `text` alone."""
        return self.raw.encode_text(_text(text))

    def encode_chat(self, query: str, history: Sequence[tuple[str, str]] = ()) -> list[int]:
        """Return the ids of the prompt for `query` after `history`, pairs of question and answer."""
        return self.format.encode_chat(query, history)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; control tokens and unknown ids have none.

        Raises:
            BadValueError: they are no ids.
        """
        try:
            found = [index(token) for token in ids]
        except TypeError as error:
            raise BadValueError(_("Only token ids can be decoded.")) from error
        return self.raw.decode(found)


def load_tokenizer(directory: str | Path) -> ChatTokenizer:
    """Load the tokenizer of a model folder.

    Raises:
        UserError: it is missing, damaged, or does not belong to the model.
    """
    if not isinstance(directory, str | Path):
        raise BadValueError(_("{name} cannot be {value}.").format(name="directory", value=repr(directory)))
    return ChatTokenizer(tokenizers.load_tokenizer(directory))


def _text(text: str) -> str:
    if not isinstance(text, str):
        raise BadValueError(_("Only text can be encoded."))
    return text
