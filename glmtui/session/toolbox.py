"""The tools that a model may call while it answers: offered, asked about, run, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from glmtui.errors import UserError
from glmtui.protocol.messages import Source, ToolCall
from glmtui.protocol.phrases import Phrase, Sayable, _
from glmtui.protocol.requests import Tool
from glmtui.text import json_values

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation

MOST_CALLS = 5
"""Of one answer; after them the model has to answer with what it has."""
NOTHING_FOUND = "Nothing was found."
REFUSED = "The user did not allow this."
NO_ROOM = "What was found is too long to be read. Answer with what you have."
UNKNOWN = "There is no such tool."
"""What a model is told; in English, as tools are described."""


class AnswerTool(Protocol):
    """Something a model may do that gives it sources."""

    @property
    def tool(self) -> Tool:
        """How it is offered."""

    @property
    def cites(self) -> bool:
        """Whether what it gives are sources, which an answer cites by their numbers."""

    def leave(self, arguments: Mapping[str, Any]) -> Phrase:
        """Return what the person is asked first; `NOTHING`: they are not.

        Raises:
            UserError: the arguments are wrong.
        """

    async def use(self, conversation: Conversation, arguments: Mapping[str, Any]) -> Sequence[Source] | str:
        """Return sources, or a text of another kind; it is cancelled as tasks are.

        Raises:
            UserError: it cannot be done.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call."""

    text: str = ""
    """What the model is told where there are no sources."""
    sources: tuple[Source, ...] = ()


class Toolbox:
    """The tools of one answer.

    Args:
        tools: what is offered.
        choose: asks the person which of some choices they want (`glmtui.session.ui.Ui.choose`).
    """

    def __init__(
        self,
        tools: Sequence[AnswerTool],
        choose: Callable[[Sayable, Sequence[Sayable]], Awaitable[int | None]],
    ) -> None:
        self._tools = {each.tool.name: each for each in tools}
        self._choose = choose
        self._calls = 0

    def add(self, tools: Sequence[AnswerTool]) -> None:
        """Offer more; one whose name is taken is left out."""
        self._tools = {each.tool.name: each for each in tools} | self._tools

    @property
    def offered(self) -> tuple[Tool, ...]:
        """What the model may still call."""
        return tuple(each.tool for each in self._tools.values()) if self._calls < MOST_CALLS else ()

    def cites(self, name: str) -> bool:
        """Whether the tool of this name gives sources."""
        tool = self._tools.get(name)
        return tool is not None and tool.cites

    async def call(self, conversation: Conversation, call: ToolCall) -> Outcome:
        """Do what a model asks for, if the person lets it.

        Raises:
            UserError: it cannot be done; the model may be told why.
        """
        self._calls += 1
        tool = self._tools.get(call.name)
        if tool is None:
            return Outcome(UNKNOWN)
        arguments = _arguments(call)
        if question := tool.leave(arguments):
            allowed = await self._choose(question, (_("Allow it"), _("Do not allow it")))
            if allowed != 0:
                return Outcome(REFUSED)
        found = await tool.use(conversation, arguments)
        if isinstance(found, str):
            return Outcome(found)
        return Outcome(sources=tuple(found)) if found else Outcome(NOTHING_FOUND)


def _arguments(call: ToolCall) -> Mapping[str, Any]:
    try:
        value = json_values.loads(call.arguments or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(_("The arguments are no JSON object."))
    return value
