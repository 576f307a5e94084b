"""How a conversation is written for each family, and how much of it fits. Imports no torch.

ChatGLM-6B and ChatGLM2-6B write rounds (``[Round 1] 问：… 答：…``), ChatGLM3-6B messages with role tokens,
CodeGeeX2-6B nothing at all: it continues the text it is given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from glmtui.errors import BadValueError, NoToolsError, TooLongError
from glmtui.models.chat_formats import thoughts
from glmtui.models.chat_formats.responses import ResponseStream
from glmtui.models.chat_formats.tools import (
    arguments_of,
    chatglm3_call,
    chatglm3_tools,
    glm4_call,
    glm4_tools,
)
from glmtui.models.tokenizers.chatglm import (
    ChatGLM2Tokenizer,
    ChatGLMTokenizer,
    TextStream,
    Tokenizer,
    VisualGLMTokenizer,
)
from glmtui.models.tokenizers.prompt_text import Control, PromptPart
from glmtui.protocol.messages import ChatMessage, Image, ToolCall
from glmtui.protocol.phrases import _

if TYPE_CHECKING:
    from glmtui.models.tokenizers.glm4 import GLM4Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as token ids."""

    ids: list[int]
    dropped_rounds: int = 0
    """How many of the oldest rounds were left out so that the rest fits."""
    images: tuple[tuple[int, Image], ...] = ()
    """The pictures in it, each with the index of its first token."""


@dataclass(frozen=True, slots=True)
class CachedConversation:
    """What a key/value cache holds after an answer: the conversation, and the very tokens of it."""

    messages: tuple[ChatMessage, ...]
    """All up to and with the answer, the left out ones too; none where they do not say all that `ids` do."""
    ids: list[int]
    """Prompt and answer as generated, without the stop token."""
    dropped_rounds: int = 0

    def continued_by(self, messages: Sequence[ChatMessage]) -> bool:
        """Whether `messages` begin with all that is here, and go on."""
        count = len(self.messages)
        return 0 < count < len(messages) and tuple(messages[:count]) == self.messages


@dataclass(frozen=True, slots=True)
class Round:
    """A question, with its answer where there is one, and what a tool said in between (ChatGLM3)."""

    messages: tuple[ChatMessage, ...] = ()

    @property
    def question(self) -> str:
        """What was asked. A question that was never answered is asked along with the next."""
        return "\n".join(message.text for message in self.messages if message.role in ("user", "tool"))

    @property
    def answer(self) -> str:
        """What was answered; empty if nothing was yet."""
        return "\n".join(message.text for message in self.messages if message.role == "assistant")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation cut into a system message, complete rounds, and the round that wants an answer."""

    systems: tuple[str, ...]
    """System messages."""
    rounds: tuple[Round, ...]
    last: Round
    images: tuple[Image, ...] = ()
    """All pictures that were shown, the oldest first; also those of rounds that are left out."""
    image_rows: Mapping[str, int] = field(default_factory=dict)
    """How many tokens each takes, by its SHA-256, where that depends on the picture."""

    @classmethod
    def of(cls, messages: Iterable[ChatMessage], image_rows: Mapping[str, int] | None = None) -> Dialogue:
        """Cut `messages`. A round starts where the user speaks after an answer."""
        messages = tuple(messages)
        systems: list[str] = []
        rounds: list[list[ChatMessage]] = [[]]
        for message in messages:
            if message.role == "system":
                systems.append(message.text)
                continue
            if message.role == "user" and rounds[-1] and rounds[-1][-1].role == "assistant":
                rounds.append([])
            rounds[-1].append(message)
        if rounds[-1] and rounds[-1][-1].role == "assistant":  # to be continued, with its thought
            rounds[-1][-1] = ChatMessage.of("assistant", thoughts.written(rounds[-1][-1].parts))
        *earlier, last = (Round(tuple(each)) for each in rounds)
        images = tuple(image for message in messages for image in images_of(message))
        return cls(tuple(filter(None, systems)), tuple(earlier), last, images, image_rows or {})

    def newest(self, count: int) -> Dialogue:
        """Return the dialogue with only its `count` newest rounds; system message and question stay."""
        return replace(self, rounds=self.rounds[len(self.rounds) - count :])

    @property
    def system(self) -> str:
        """All system messages as one."""
        return "\n".join(self.systems)

    @property
    def question(self) -> str:
        """What is asked now, for families without system messages: the system's text stands before it."""
        return "\n".join(filter(None, (self.system, self.last.question)))


def images_of(message: ChatMessage) -> list[Image]:
    """Return the pictures in `message`."""
    return [part for part in message.parts if isinstance(part, Image)]


def messages_of(
    query: str,
    history: Iterable[tuple[str, str]] = (),
    system: str = "",
    image: Image | None = None,
) -> list[ChatMessage]:
    """Return the messages of a conversation given as pairs of question and answer, with its last question.

    An `image` goes with the first question, as the published code has it.

    Raises:
        BadValueError: it is given as something else.
    """
    given = list(history) if isinstance(history, Iterable) else [history]
    pairs = [tuple(each) if isinstance(each, list | tuple) else () for each in given]
    if any(len(pair) != 2 for pair in pairs) or not all(
        isinstance(text, str) for pair in ((query, system), *pairs) for text in pair
    ):
        raise BadValueError(_("A conversation is a question, after pairs of a question and its answer."))
    messages = [ChatMessage.of("system", system)] if system else []
    for question, answer in pairs:
        messages.append(ChatMessage.of("user", question))
        messages.append(ChatMessage("assistant", thoughts.parts_of(answer)))
    messages.append(ChatMessage.of("user", query))
    if image is not None:
        first = next(at for at, message in enumerate(messages) if message.role == "user")
        messages[first] = ChatMessage("user", (image, *messages[first].parts))
    return messages


class ChatFormat(ABC):
    """How one family wants a conversation to be written."""

    supports_system: ClassVar[bool] = False
    """Whether it was trained with system messages; others get the text before the question."""
    keeps_cache: ClassVar[bool] = True
    """Whether the keys and values of one round serve the next, so that `fit` can continue what is cached.
    ChatGLM-6B's context sees itself in both directions, so there every question reads all of the prompt."""
    widens_punctuation: ClassVar[bool] = False
    calls_tools: ClassVar[bool] = False
    """Whether it was trained to call tools (`offer`)."""
    thinks: bool = False
    """Whether answers may begin with a thought, which can be long."""
    sees_images: bool = False
    """Whether pictures in messages have a place in the prompt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Any of these ends an answer."""
        return (self._tokenizer.eos_id,)

    @abstractmethod
    def parts(self, dialogue: Dialogue, *, asks: bool = True) -> list[PromptPart]:
        """Return the complete prompt. An answer in `dialogue.last` is to be continued.

        Where there is none yet, the prompt `asks` for one at its end, or breaks off before that.
        """

    def direct(self, text: str) -> str:
        """Return how the model writes an answer `text` without a thought."""
        return text

    def write(self, dialogue: Dialogue) -> list[int]:
        """Return the ids of the complete prompt."""
        return self._tokenizer.encode_parts(self.parts(dialogue))

    def relevant(self, dialogue: Dialogue) -> Dialogue:
        """Return `dialogue` without the rounds that the family cannot be told together with the last."""
        return dialogue

    def place_images(self, dialogue: Dialogue, ids: Sequence[int]) -> tuple[tuple[int, Image], ...]:
        """Return the pictures in a prompt `ids` of `dialogue`, each with the index of its first token."""
        return ()

    def offer(self, tools: Sequence[Mapping[str, Any]], system: str = "") -> tuple[ChatMessage, ...]:
        """Return the system messages that a conversation begins with where the model may call `tools`.

        What it answers is read by `glmtui.models.chat_formats.tools.parse_tool_call`; what the tool
        says is the next message, of the role ``tool``.

        Args:
            tools: each a JSON schema with ``name``, ``description`` and ``parameters``, bare or in a
                ``function``.
            system: what else the model is told.

        Raises:
            UserError: the family was not trained to call any.
        """
        raise _calls_no_tools()

    def call(self, name: str, parameters: Mapping[str, Any]) -> str:
        """Return the text with which the model calls a tool, as `tools.parse_tool_call` reads it.

        Raises:
            UserError: the family was not trained to call any.
        """
        raise _calls_no_tools()

    def follow(self, rounds: int, new: Sequence[ChatMessage]) -> list[int] | None:
        """Return the ids that `new` messages add behind `rounds` rounds in the cache; None if they cannot."""
        return None

    def fit(
        self,
        messages: Sequence[ChatMessage],
        limit: int,
        cached: CachedConversation | None = None,
        image_rows: Mapping[str, int] | None = None,
    ) -> Prompt:
        """Write `messages` in at most `limit` tokens, leaving out complete rounds, the oldest first.

        `image_rows` is `Dialogue.image_rows`.

        Where `messages` continue what is `cached`, so does the prompt, token for token, and only its end is
        new: text that is encoded again may come out as other tokens than the model generated.

        Raises:
            UserError: the last question alone is longer than that. It is not cut: half a question gets an
                answer that looks right and is not.
        """
        complete = Dialogue.of(messages, image_rows)
        if cached is not None:
            prompt = self._continue(messages, cached, complete.image_rows)
            if prompt is not None and len(prompt.ids) <= limit:
                rounds = complete.newest(len(complete.rounds) - prompt.dropped_rounds)
                return replace(prompt, images=self.place_images(rounds, prompt.ids))
        dialogue = self.relevant(complete)
        ids = self.write(dialogue.newest(0))
        if len(ids) > limit:
            phrase = _(
                "The message is {count} tokens long and only {limit} fit. Shorten it, or raise the length "
                "limit (max_length)."
            )
            raise TooLongError(phrase.format(count=f"{len(ids):,}", limit=f"{limit:,}"))
        # A round's cost alone may be off by a token at each end, so count generously, then write to be sure.
        kept, used = 0, len(ids)
        for each in reversed(dialogue.rounds):
            used += self._cost(each, dialogue)
            if used - 2 * (kept + 1) > limit:
                break
            kept += 1
        while kept and len(written := self.write(dialogue.newest(kept))) > limit:
            kept -= 1
        ids = written if kept else ids
        images = self.place_images(dialogue.newest(kept), ids)
        return Prompt(ids, len(complete.rounds) - kept, images)

    def encode_chat(self, query: str, history: Iterable[tuple[str, str]] = ()) -> list[int]:
        """Return the ids of a prompt for `query` after `history`, pairs of question and answer."""
        return self.write(Dialogue.of(messages_of(query, history)))

    def process_response(self, text: str) -> str:
        """Post-process a complete answer."""
        stream = self.stream_response()
        return stream.push(text) + stream.finish()

    def stream_response(self, after: str = "") -> ResponseStream:
        """Return the post-processing of one answer as it comes, or of how it goes on `after` a part of it."""
        return ResponseStream(punctuation=self.widens_punctuation, after=after)

    def stream_tokens(self, after: str = "") -> TextStream:
        """Return the decoder of one answer's tokens, or of those that go on `after` a part of it."""
        return self._tokenizer.stream(goes_on=bool(after))

    def _continue(
        self, messages: Sequence[ChatMessage], cached: CachedConversation, image_rows: Mapping[str, int]
    ) -> Prompt | None:
        if not cached.continued_by(messages):
            return None
        dialogue = Dialogue.of(cached.messages)
        added = self.follow(
            len(dialogue.rounds) + 1 - cached.dropped_rounds, messages[len(cached.messages) :]
        )
        return None if added is None else Prompt(cached.ids + added, cached.dropped_rounds)

    def _cost(self, each: Round, dialogue: Dialogue) -> int:
        """Return about how many tokens a round of `dialogue` adds to a prompt."""
        alone = replace(dialogue, systems=(), last=Round())
        once, twice = (len(self.write(replace(alone, rounds=(each,) * n))) for n in (1, 2))
        return twice - once


_ANSWER = "答："


class Rounds(ChatFormat):
    """ChatGLM-6B: the bare question first, numbered rounds (from 0) after that."""

    keeps_cache = False
    widens_punctuation = True
    _first, _gap = 0, "\n"

    def parts(self, dialogue: Dialogue, *, asks: bool = True) -> list[PromptPart]:
        prompt, answer = self.build_prompt(dialogue), dialogue.last.answer
        if answer:
            return [*self._tokenizer.prompt(prompt), answer]
        return self._tokenizer.prompt(prompt if asks else prompt.removesuffix(f"{self._gap}{_ANSWER}"))

    @classmethod
    def build_prompt(cls, dialogue: Dialogue) -> str:
        """Return the text of a prompt."""
        if not dialogue.rounds and cls._first == 0:
            return dialogue.question
        earlier = [cls._round(i, each.question) + each.answer for i, each in enumerate(dialogue.rounds)]
        return cls._gap.join([*earlier, cls._round(len(earlier), dialogue.question)])

    @classmethod
    def _round(cls, number: int, question: str) -> str:
        return f"[Round {cls._first + number}]{cls._gap}问：{question}{cls._gap}{_ANSWER}"


class SpacedRounds(Rounds):
    """ChatGLM2-6B: numbered rounds from 1 with blank lines between, from the first question on."""

    keeps_cache = True
    widens_punctuation = False
    _first, _gap = 1, "\n\n"

    _tokenizer: ChatGLM2Tokenizer

    def follow(self, rounds: int, new: Sequence[ChatMessage]) -> list[int] | None:
        """Return the next round's ids, less the space that encoding puts before a text."""
        if any(message.role != "user" for message in new):
            return None
        ids = self._tokenizer.encode_text(self._gap + self._round(rounds, Round(tuple(new)).question))
        return ids[1:] if self._tokenizer.puts_space else ids


_ROLE_TOKENS = {"tool": "observation"}
"""Roles whose token has another name."""


class Roles(ChatFormat):
    """ChatGLM3-6B, GLM-4-9B: every message behind a role token and a line of metadata, mostly empty."""

    supports_system = True
    calls_tools = True

    _tokenizer: ChatGLM2Tokenizer | GLM4Tokenizer

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``</s>``, and the roles that would speak next."""
        roles = (self._tokenizer.special_ids[_role(role).name] for role in ("user", "tool"))
        return (self._tokenizer.eos_id, *roles)

    def offer(self, tools: Sequence[Mapping[str, Any]], system: str = "") -> tuple[ChatMessage, ...]:
        told = glm4_tools if self._tokenizer.family == "chatglm4" else chatglm3_tools
        return tuple(ChatMessage.of("system", text) for text in told(tools, system))

    def call(self, name: str, parameters: Mapping[str, Any]) -> str:
        written = glm4_call if self._tokenizer.family == "chatglm4" else chatglm3_call
        return written(name, parameters)

    def parts(self, dialogue: Dialogue, *, asks: bool = True) -> list[PromptPart]:
        """Return ``[gMASK]``, ``sop``, the messages, ``<|assistant|>``, and what is there of the answer."""
        parts: list[PromptPart] = [Control(name) for name in self._tokenizer.prefix]
        for system in dialogue.systems:
            parts += self._message("system", "", system)
        messages = [message for each in (*dialogue.rounds, dialogue.last) for message in each.messages]
        for message, follower in zip(messages, [*messages[1:], None], strict=True):
            calls = [part for part in message.parts if isinstance(part, ToolCall)]
            for call in calls:
                parts += self._message(message.role, *self._written(call).split("\n", 1))
            if calls and not message.text:
                continue
            calls_tool = message.role == "assistant" and follower is not None and follower.role == "tool"
            metadata, text = (
                message.text.split("\n", 1)
                if calls_tool and not calls and "\n" in message.text
                else ("", message.text)
            )
            parts += self._message(message.role, metadata, text)
        if asks and (not messages or messages[-1].role != "assistant"):
            parts.append(_role("assistant"))
        return parts

    def follow(self, rounds: int, new: Sequence[ChatMessage]) -> list[int] | None:
        if any(message.role not in ("user", "tool") for message in new):
            return None
        parts = [part for message in new for part in self._message(message.role, "", message.text)]
        return self._tokenizer.encode_parts([*parts, _role("assistant")])

    @staticmethod
    def _message(role: str, metadata: str, text: str) -> list[PromptPart]:
        return [_role(role), f"{metadata}\n", text]

    def _written(self, call: ToolCall) -> str:
        """Return a call of an earlier answer; arguments that the model got wrong are as they were."""
        arguments = arguments_of(call)
        return f"{call.name}\n{call.arguments}" if arguments is None else self.call(call.name, arguments)


def _role(role: str) -> Control:
    return Control(f"<|{_ROLE_TOKENS.get(role, role)}|>")


class Completion(ChatFormat):
    """CodeGeeX2-6B: goes on from the text it is given, such as ``# language: Python`` and a comment.

    It was trained on files, not on talk, so earlier rounds do not belong in front of it. So were GLM's base
    models.
    """

    def parts(self, dialogue: Dialogue, *, asks: bool = True) -> list[PromptPart]:
        return self._tokenizer.prompt(dialogue.question + dialogue.last.answer)

    def stream_response(self, after: str = "") -> ResponseStream:
        # indentation at the start is part of the text
        return super().stream_response(after or "\n")

    def stream_tokens(self, after: str = "") -> TextStream:
        return super().stream_tokens(after or "\n")


def _calls_no_tools() -> NoToolsError:
    return NoToolsError(_("This model was not trained to call tools. ChatGLM3-6B and GLM-4-9B were."))


def chat_format(tokenizer: Tokenizer) -> ChatFormat:
    """Return how the tokenizer's family writes a conversation."""
    if isinstance(tokenizer, VisualGLMTokenizer):
        from glmtui.models.chat_formats.visualglm import VisualRounds

        return VisualRounds(tokenizer)
    if isinstance(tokenizer, ChatGLMTokenizer):
        return Rounds(tokenizer)
    if tokenizer.family in ("chatglm3", "chatglm4"):
        return Roles(tokenizer)
    if isinstance(tokenizer, ChatGLM2Tokenizer):
        return SpacedRounds(tokenizer) if tokenizer.family == "chatglm2" else Completion(tokenizer)
    from glmtui.models.chat_formats.templates import template_format

    return template_format(tokenizer)
