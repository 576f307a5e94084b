"""Answers that are JSON of a given schema: of all tokens only those may come that keep them so.

Which these are is told by llguidance (`glmtui[json]`) from the schema and the bytes of every token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glmtui.errors import BadSchemaError, UnavailableError
from glmtui.protocol.phrases import _
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    import llguidance

    from glmtui.models.tokenizers.chatglm import Tokenizer

INSTALL = "pip install 'glmtui[json]'"
THOUGHT_ENDS = b"</think>"
_BITS = 2 ** torch.arange(8, dtype=torch.uint8)
_PLACE = re.compile(r"^at \d+\(\d+\): ")
"""In what llguidance reads: the schema is one word of it."""
LEAD = 'start: BLANK? answer\nBLANK: " "\nanswer: %json {schema}\n'
"""As JSON stands in an answer: some models begin every text with a blank."""
SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Where blanks are free, a model that was not made for this writes nothing else."""


class Vocabulary:
    """The tokens of a model as llguidance takes them; made once, which takes a second.

    Args:
        tokenizer: of the model.
        stop_ids: tokens that end an answer.

    Raises:
        UnavailableError: llguidance is not installed.
    """

    def __init__(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> None:
        try:
            import llguidance
        except ImportError as error:
            raise UnavailableError(
                _("Answers as JSON of a schema need: {command}").format(command=INSTALL)
            ) from error
        self.tokens: Sequence[bytes] = tokenizer.token_bytes()
        """What each id says."""
        self.bos_token_id = None
        self.special_token_ids: list[int] = []
        stops = [token for token in stop_ids if 0 <= token < len(self.tokens)]
        self.eos_token_id = stops[0] if stops else 0
        self._ids = {said: token for token, said in reversed([*enumerate(self.tokens)]) if said}
        self._longest = max(map(len, self._ids), default=0)
        wrapped = llguidance.TokenizerWrapper(self)
        self.tokenizer = llguidance.LLTokenizer(wrapped, eos_token=stops or None)

    def __call__(self, text: bytes) -> list[int]:
        """Return tokens that say `text` and nothing else, the longest first, where the library must have it.

        The tokenizer itself may put a blank before it.
        """
        found: list[int] = []
        while text:
            longest = range(min(self._longest, len(text)), 0, -1)
            length = next((each for each in longest if text[:each] in self._ids), 0)
            if not length:
                return found
            found.append(self._ids[text[:length]])
            text = text[length:]
        return found


class Grammar:
    """Which tokens may come next in one answer.

    Args:
        vocabulary: of the model.
        schema: a JSON schema.
        after_thought: the answer begins behind a thought, which may say what it likes.

    Raises:
        BadSchemaError: the schema is wrong, or of a kind that cannot be followed.
    """

    def __init__(
        self, vocabulary: Vocabulary, schema: Mapping[str, Any], *, after_thought: bool = False
    ) -> None:
        import llguidance

        self._vocabulary = vocabulary
        self._thought: bytes | None = b"" if after_thought else None
        grammar = llguidance.LLMatcher.grammar_from_lark(
            LEAD.format(schema=json.dumps({**schema, "x-guidance": SEPARATORS}))
        )
        self._matcher: llguidance.LLMatcher = llguidance.LLMatcher(vocabulary.tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise BadSchemaError(
                _("This JSON schema cannot be followed: {error}").format(error=self._error())
            )

    def limited(self, logits: Tensor) -> Tensor:
        """Return float32 `logits` ``[vocab]`` with minus infinity where a token must not come.

        Raises:
            BadSchemaError: the schema is too large to be followed further.
        """
        if self._thought is not None:
            return logits
        mask = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        allowed = (mask[:, None] & _BITS).bool().flatten()[: len(logits)].to(logits.device)
        if self._matcher.is_error():
            raise BadSchemaError(
                _("This JSON schema cannot be followed: {error}").format(error=self._error())
            )
        if len(allowed) < len(logits):  # rows that pad the embedding
            allowed = torch.nn.functional.pad(allowed, (0, len(logits) - len(allowed)))
        return logits.where(allowed, -torch.inf)

    def accept(self, token: int) -> None:
        """Take on a token of the answer."""
        if self._thought is None:
            self._matcher.consume_token(token)
            return
        tokens = self._vocabulary.tokens
        self._thought += tokens[token] if token < len(tokens) else b""
        if THOUGHT_ENDS in self._thought:
            self._thought = None
        else:
            self._thought = self._thought[-len(THOUGHT_ENDS) :]

    def _error(self) -> str:
        first = self._matcher.get_error().partition("\n")[0]
        return one_line(_PLACE.sub("", first))[:300]
