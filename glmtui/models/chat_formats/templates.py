"""How newer GLMs want a conversation to be written: as the chat template in their folder says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from glmtui.errors import UnavailableError
from glmtui.models.chat_formats import thoughts
from glmtui.models.chat_formats.formats import (
    CachedConversation,
    ChatFormat,
    Completion,
    Dialogue,
    Prompt,
    images_of,
)
from glmtui.models.chat_formats.responses import ResponseStream
from glmtui.models.tokenizers.chatglm import Tokenizer
from glmtui.models.tokenizers.glm_hf import GLMStream, GLMTokenizer
from glmtui.models.tokenizers.prompt_text import Control, PromptPart
from glmtui.protocol.messages import ChatMessage, Image, thought_of
from glmtui.protocol.phrases import _

IMAGE = "<|image|>"
"""The token that a template writes once for a picture, and a prompt has as often as the picture has rows."""
_OBSERVATION = re.compile(r"""['"]observation['"]""")


class Template(ChatFormat):
    """Messages through the folder's chat template. What was thought about earlier questions is left out."""

    supports_system = True

    def __init__(self, tokenizer: GLMTokenizer) -> None:
        super().__init__(tokenizer)
        self._glm = tokenizer
        # GLM-4.5 calls what a tool said a message of the role "tool", GLM-4 "observation".
        self._tool_role = "observation" if _OBSERVATION.search(tokenizer.template) else "tool"
        asked = tokenizer.render([{"role": "user", "content": "?"}], asks=True)
        self._opening = thoughts.OPEN if asked.rstrip().endswith(thoughts.OPEN) else ""
        """What the prompt already holds of the answer: GLM-Z1 is made to think."""
        self.thinks = thoughts.OPEN in tokenizer.template
        self.sees_images = IMAGE in tokenizer.special_ids and IMAGE in tokenizer.template

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The end token, and the roles that would speak next."""
        names = ("<|user|>", "<|observation|>", "<|endoftext|>")
        found = [self._glm.special_ids[name] for name in names if name in self._glm.special_ids]
        return (self._glm.eos_id, *found)

    def parts(self, dialogue: Dialogue, *, asks: bool = True) -> list[PromptPart]:
        messages = [message for each in (*dialogue.rounds, dialogue.last) for message in each.messages]
        begun = ""
        if messages and messages[-1].role == "assistant" and dialogue.last.messages:
            begun = messages.pop().text
        prompt = self._glm.render(self._messages(dialogue.system, messages), asks=asks or bool(begun))
        parts = self._with_rows(self._glm.rendered(prompt), messages, dialogue.image_rows)
        return [*parts, begun.removeprefix(self._opening)]

    def place_images(self, dialogue: Dialogue, ids: Sequence[int]) -> tuple[tuple[int, Image], ...]:
        if not self.sees_images:
            return ()
        token = self._glm.special_ids[IMAGE]
        starts = [at for at, found in enumerate(ids) if found == token and (at == 0 or ids[at - 1] != token)]
        messages = (message for each in (*dialogue.rounds, dialogue.last) for message in each.messages)
        return tuple(zip(starts, (each for message in messages for each in images_of(message)), strict=True))

    def _with_rows(
        self, parts: list[PromptPart], messages: Sequence[ChatMessage], image_rows: Mapping[str, int]
    ) -> list[PromptPart]:
        """Return `parts` with each picture's token as often as the picture has rows.

        Raises:
            UserError: the template has another number of them.
        """
        images = [image for message in messages for image in images_of(message)]
        marks = [at for at, part in enumerate(parts) if part == Control(IMAGE)]
        if len(marks) != len(images):
            raise UnavailableError(_("The model's chat template has no place for pictures."))
        rows = dict(zip(marks, (image_rows[image.sha256] for image in images), strict=True))
        return [part for at, part in enumerate(parts) for _row in range(rows.get(at, 1))]

    def direct(self, text: str) -> str:
        """Close the thought that the prompt has opened."""
        return f"{self._opening}\n{thoughts.CLOSE}\n\n{text}" if self._opening else text

    def stream_response(self, after: str = "") -> ResponseStream:
        return ResponseStream(punctuation=False, dates=False, after=after, opening=self._opening)

    def stream_tokens(self, after: str = "") -> GLMStream:
        return self._glm.stream()

    def _continue(
        self, messages: Sequence[ChatMessage], cached: CachedConversation, image_rows: Mapping[str, int]
    ) -> Prompt | None:
        """Add what the template writes behind the last answer, if it repeats that as it was generated."""
        if not cached.continued_by(messages) or messages[-1].role == "assistant":
            return None
        *before, answer = cached.messages
        asked = self._render(before, asks=True)
        answered = self._render(cached.messages, asks=False)
        continued = self._render(messages, asks=True)
        if answered != asked + self._glm.shield(answer.text) or not continued.startswith(answered):
            return None
        parts = self._glm.rendered(continued[len(answered) :])
        added = self._with_rows(parts, messages[len(cached.messages) :], image_rows)
        return Prompt(cached.ids + self._glm.encode_parts(added), cached.dropped_rounds)

    def _render(self, messages: Sequence[ChatMessage], *, asks: bool) -> str:
        system = "\n".join(message.text for message in messages if message.role == "system")
        spoken = [message for message in messages if message.role != "system"]
        return self._glm.render(self._messages(system, spoken), asks=asks)

    def _messages(self, system: str, messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
        shield = self._glm.shield
        written: list[dict[str, Any]] = [{"role": "system", "content": shield(system)}] if system else []
        for message in messages:
            role = self._tool_role if message.role == "tool" else message.role
            content: Any = shield(message.text)
            if images := images_of(message):
                content = [*({"type": "image"} for _image in images), {"type": "text", "text": content}]
            written.append({"role": role, "content": content})
            if thought := thought_of(message.parts):
                written[-1]["reasoning_content"] = shield(thought)
        return written


def template_format(tokenizer: Tokenizer) -> ChatFormat:
    """Return how the model of `tokenizer` is talked to; one without a template goes on with a text."""
    if isinstance(tokenizer, GLMTokenizer) and tokenizer.template:
        return Template(tokenizer)
    return Completion(tokenizer)
