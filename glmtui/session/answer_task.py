"""An answer that is being made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from glmtui.i18n import tell
from glmtui.protocol.messages import Part, Source, Text, Thought, ToolCall, ToolResult, text_of
from glmtui.retrieval.citations import CitationFilter, check

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation, Message, State
    from glmtui.protocol.engine import Stream
    from glmtui.protocol.events import Failed, Stats, Tokens
    from glmtui.protocol.phrases import Phrase
    from glmtui.session.toolbox import Toolbox

Saving = Callable[[], AbstractContextManager[None]]
"""Around what writes: what cannot be written now is said, and written with the next change."""


class SpeedMeter:
    """How many of something come in a second, over the last few seconds."""

    WINDOW = 3.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: list[tuple[float, int]] = []
        self._total = 0

    def add(self, count: int) -> None:
        """Note that `count` came now."""
        self._total += count
        now = self._clock()
        self._samples.append((now, self._total))
        while len(self._samples) > 2 and now - self._samples[1][0] > self.WINDOW:
            del self._samples[0]

    @property
    def rate(self) -> float | None:
        """Per second; None while there is too little to tell."""
        if len(self._samples) < 2:
            return None
        (first_time, first), (last_time, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_time - first_time) if last_time > first_time else None


class _Growing:
    """A text of which the file has the beginning."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.saved = len(text)

    def unsaved(self) -> str:
        new, self.saved = self.text[self.saved :], len(self.text)
        return new


@dataclass(eq=False)
class AnswerTask:
    """One answer on its way from the engine to the file.

    Args:
        conversation: it belongs to, whichever is open.
        message: as the file has it, empty or what is continued.
    """

    conversation: Conversation
    message: Message
    stream: Stream | None = None
    """None until the engine has been asked."""
    ahead: Stream | None = None
    """What was read of the prompt before it was sent, and goes on: the answer waits for it."""
    gathering: asyncio.Task[None] | None = None
    """While what the answer may rest on is looked for, or a tool that the model called is at work."""
    toolbox: Toolbox | None = None
    """What the model may call."""
    since: float = field(default_factory=time.monotonic)
    speed: SpeedMeter = field(default_factory=SpeedMeter)

    CHECKPOINT_SECONDS: ClassVar[float] = 0.7
    """What is read from the engine, and synced to the disk, in between adds to it."""

    def __post_init__(self) -> None:
        self._text, self._thought = _Growing(self.message.text), _Growing(self.message.thought)
        self._saved_at = self.since
        self.cancelled = False
        self.searched: dict[Phrase, Sequence[Source]] = {}
        """Who was asked for sources, by their names, and what they found."""
        self.found = 0
        """Sources there were, of which the answer has those there was room for."""
        self.new_sources: tuple[Source, ...] = ()
        """Those it has that were not there when it began."""
        self.given: tuple[Source, ...] = ()
        """Those of them that stand with the question; the others are in `steps`."""
        self.calls: list[ToolCall] = []
        """What the model has called and that is not done yet."""
        self.refused_call = False
        """Whether it called a tool while none were offered."""
        self._tokens = 0
        """Of the rounds that ended with calls."""
        self.steps: tuple[ToolCall | ToolResult, ...] = ()
        """What it called and what came of it, in turn."""
        self._cites = False
        """Whether numbers in it mean sources, also where none were found."""
        self._cite(self.message.parts)

    def _cite(self, parts: Iterable[Part]) -> None:
        self.sources = tuple(part for part in parts if isinstance(part, Source))
        self._filter = CitationFilter(len(self.sources)) if self.sources or self._cites else None

    def rest_on(self, sources: Sequence[Source], found: int) -> None:
        """Ask the question with `sources`, which the answer may cite; `found` there were."""
        self.given = self.new_sources = tuple(sources)
        self.found = found
        self._cite(sources)

    def number(self, sources: Sequence[Source]) -> tuple[Source, ...]:
        """Return `sources` with their numbers in this answer, of which it may have some already."""
        numbers = {replace(each, number=0): each.number for each in self.new_sources}
        return tuple(
            replace(each, number=numbers.setdefault(replace(each, number=0), len(numbers) + 1))
            for each in sources
        )

    def take_step(
        self, call: ToolCall, result: str, sources: Sequence[Source], found: int, *, cites: bool
    ) -> None:
        """Note what came of a call: the text for the model, and the numbered `sources` in it.

        After a tool that `cites`, numbers mean sources even if it gave none.
        """
        self._cites |= cites
        self.calls.remove(call)
        self.steps += (call, ToolResult(call.id, result, call.name))
        self.new_sources += tuple(each for each in sources if each not in self.new_sources)
        self.found += found
        self._cite(self.new_sources)

    def begin_calls(self, stats: Stats) -> str:
        """End the paragraph before the calls; return what is to be shown of that."""
        self._tokens += stats.answer_tokens
        rest = self.take_rest()
        gap = "\n\n" if self._text.text and not self._text.text.endswith("\n") else ""
        self._text.text += gap
        return rest + gap

    @property
    def begun(self) -> bool:
        """Whether the model has said or done anything yet."""
        return bool(self._text.text or self._thought.text or self.calls or self.steps)

    @property
    def says_something(self) -> bool:
        """Whether there is a text to read."""
        return bool(self._text.text.strip())

    @property
    def ended(self) -> bool:
        """Whether nothing more comes: its end was taken from the engine, or it was never asked."""
        return self.gathering is None and (self.stream is None or self.stream.ended)

    def cancel(self) -> None:
        """Ask for its end, also while its sources are looked for."""
        self.cancelled = True
        for running in (self.gathering, self.ahead, self.stream):
            if running is not None:
                running.cancel()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of it so far."""
        thought, text = self._thought.text, self._text.text
        others = (part for part in self.message.parts if not isinstance(part, Thought | Text))
        return (
            *((Thought(thought),) if thought else ()),
            *((Text(text),) if text else ()),
            *others,
            *self.steps,
            *self.calls,
            *self.new_sources,
        )

    def add(self, event: Tokens) -> str:
        """Take in new text; return what is to be shown of it now."""
        text = event.text
        if self._filter is not None and not event.thought:
            text = self._filter.push(text)
        (self._thought if event.thought else self._text).text += text
        self.speed.add(event.count)
        return text

    def take_rest(self) -> str:
        """Take in what was held back as it might have become a number; return what is to be shown."""
        rest = self._filter.finish() if self._filter is not None else ""
        self._text.text += rest
        return rest

    def save(self, saving: Saving) -> None:
        """Write what came since to the file, but not too often: a crash loses less than a second."""
        now = time.monotonic()
        if now - self._saved_at < self.CHECKPOINT_SECONDS:
            return
        for growing, thought in ((self._thought, True), (self._text, False)):
            if text := growing.unsaved():
                self._saved_at = now
                with saving():
                    self.conversation.extend(self.message.id, text, thought=thought)

    def beyond(self, message: Message) -> Iterable[tuple[str, bool]]:
        """Yield what came since `message` was read from the file: text, and whether it is of the thought."""
        for have, text, thought in (
            (message.thought, self._thought.text, True),
            (message.text, self._text.text, False),
        ):
            if len(text) > len(have):
                yield text[len(have) :], thought

    def finish(self, saving: Saving, state: State, stats: Stats | None, failed: Failed | None) -> Message:
        """Write the final text with what is known about it; return the message.

        Where an answer was continued, its tokens are those of all parts, its speed is the last one's.
        """
        self.calls.clear()  # those that came to nothing
        meta: dict[str, Any] = {"error": tell(failed.phrase), "error_code": failed.code} if failed else {}
        if stats:
            before = self.conversation.messages[self.message.id].meta.get("tokens")
            meta["tokens"] = stats.answer_tokens + self._tokens + (before if isinstance(before, int) else 0)
            meta["prompt_tokens"] = stats.prompt_tokens
            if stats.tokens_per_second:  # of what came in one piece there is none
                meta["tokens_per_second"] = round(stats.tokens_per_second, 1)
        if self.found:
            meta["sources"] = [len(self.new_sources), self.found]
        with saving():
            self.conversation.finish(self.message.id, self._checked(), state, meta)
        return self.conversation.messages[self.message.id]

    def _checked(self) -> tuple[Part, ...]:
        """Return the parts, the text with the numbers that are right for it."""
        self.take_rest()
        parts = self.parts
        if not self.sources:
            return parts
        text = check(text_of(parts), self.sources)
        return tuple(Text(text) if isinstance(part, Text) else part for part in parts)
