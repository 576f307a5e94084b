"""The conversation on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import on
from textual.binding import BindingType
from textual.message import Message as TextualMessage
from textual.reactive import var

from glmtui.i18n import _
from glmtui.reasoning import answer_of
from glmtui.tui.bindings import bindings
from glmtui.tui.transcript.column_view import ColumnView
from glmtui.tui.transcript.entries import Entry
from glmtui.tui.transcript.lines_view import LinesView
from glmtui.tui.transcript.message import Action, AnswerView, EntryView, MessageView, make_view

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message

NoticeKind = Literal["info", "warning", "error"]
Branches = Mapping[str, tuple[int, int]]
"""For messages that have other versions: which one this is (from 1), of how many."""


class Transcript(ColumnView):
    """Messages and notices, oldest first. With the focus, keys choose a message and act on it."""

    DEFAULT_CSS = """
    Transcript { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("transcript")]

    selected: var[str | None] = var(None)
    """Id of the message that keys act on."""

    @dataclass
    class MessageAction(TextualMessage):
        """The person wants something done with a message.

        `text` is what to copy or to quote where that is not the whole message: what is selected with the
        mouse, or the code block.
        """

        transcript: Transcript
        message_id: str
        action: Action
        text: str = ""

        @property
        def control(self) -> Transcript:
            """The transcript, for `on`."""
            return self.transcript

    @dataclass
    class LinkWanted(TextualMessage):
        """A link was clicked, or the links of a message are wanted. Nothing has been opened."""

        transcript: Transcript
        links: Sequence[str]

        @property
        def control(self) -> Transcript:
            """The transcript, for `on`."""
            return self.transcript

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(make_view, id=id)
        self._by_id: dict[str, Entry] = {}
        self._code_at: tuple[str, int] = ("", 0)

    # --- what the app asks for ---

    async def show(self, messages: Sequence[Message], *, branches: Branches | None = None) -> None:
        """Replace everything by these messages and go to the end."""
        entries = [_entry(message, branches) for message in messages]
        self.selected = None
        self._by_id = {entry.message.id: entry for entry in entries if entry.message}
        if entries:
            entries[-1].last = True
        await self.append_entries(entries, clear=True, follow=True)

    async def show_changes(self, messages: Sequence[Message], *, branches: Branches | None = None) -> None:
        """Show another branch of what is here: what both begin with stays, and so does what is read."""
        for message_id in self._by_id.keys() - {message.id for message in messages}:
            await self.remove_message(message_id)
        entries = [_entry(message, branches) for message in messages if message.id not in self._by_id]
        for message in messages[: len(messages) - len(entries)]:
            await self.replace(message, branches=branches)
        self._by_id |= {entry.message.id: entry for entry in entries if entry.message}
        await self.append_entries(entries, follow=self.following)
        self._no_longer_last()
        if messages:
            self._set_last(self._by_id[messages[-1].id], True)

    async def add(self, message: Message, *, branches: Branches | None = None) -> MessageView:
        """Add a message at the end and go there."""
        entry = self._by_id[message.id] = self._new_last(message, branches)
        await self.append_entries([entry], follow=True)
        assert isinstance(entry.view, MessageView)
        return entry.view

    async def begin_answer(self, message: Message, *, branches: Branches | None = None) -> AnswerView:
        """Add an answer that is about to be written, or go on with the one that has this id."""
        await self.remove_message(message.id)
        entry = self._by_id[message.id] = self._new_last(message, branches)
        entry.pinned = True
        entry.view = view = AnswerView(entry)
        await self.append_entries([entry], follow=self.following)
        return view

    def _new_last(self, message: Message, branches: Branches | None) -> Entry:
        self._no_longer_last()
        entry = _entry(message, branches)
        entry.last = True
        return entry

    def _no_longer_last(self) -> None:
        if entry := next((entry for entry in reversed(self.column.entries) if entry.last), None):
            self._set_last(entry, False)

    def _set_last(self, entry: Entry, last: bool) -> None:
        entry.last = last
        if isinstance(entry.view, MessageView):
            entry.view.lines_changed()

    async def replace(self, message: Message, *, branches: Branches | None = None) -> None:
        """Show another state of a message that is here."""
        entry = self._by_id.get(message.id)
        if entry is None:
            return
        changed = message.text != entry.text
        entry.message, entry.text = message, message.text
        entry.branch = (branches or {}).get(message.id, (1, 1))
        if isinstance(entry.view, MessageView):
            entry.view.show_message(changed)

    async def remove_message(self, message_id: str) -> None:
        """Take a message out."""
        if entry := self._by_id.pop(message_id, None):
            if self.selected == message_id:
                self.selected = None
            await self.remove_entry(entry)

    async def notice(self, text: str, kind: NoticeKind = "info") -> None:
        """Add a line of the app's own and go there."""
        await self.append_entries([Entry(text, kind=kind)], follow=True)

    async def notice_markdown(self, text: str) -> None:
        """Add a longer text of the app's own, such as the help, and go there."""
        await self.append_entries([Entry(text, kind="markdown")], follow=True)

    def go_to(self, message_id: str) -> bool:
        """Choose a message and bring its top into view; False if it is not here."""
        entry = self._by_id.get(message_id)
        if entry is None:
            return False
        self.selected = message_id
        self.go_to_entry(entry)
        return True

    # --- choosing ---

    def watch_selected(self, old: str | None, new: str | None) -> None:
        """Mark what is chosen."""
        for message_id in (old, new):
            if message_id and (entry := self._by_id.get(message_id)):
                self._mark(entry)

    def _mark(self, entry: Entry) -> None:
        if isinstance(entry.view, MessageView) and entry.message:
            entry.view.choose(self.has_focus and entry.message.id == self.selected)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Choose the last message in view, unless one is chosen; it is marked while keys act on it."""
        super().watch_has_focus(has_focus)
        if has_focus and self.selected is None:
            self._choose_last_seen()
        elif entry := self._by_id.get(self.selected or ""):
            self._mark(entry)

    def _choose_last_seen(self) -> None:
        seen = self.column.entries[: self.column.at(self.scroll_y + self.view_height - 1) + 1]
        self.selected = next((entry.message.id for entry in reversed(seen) if entry.message), None)

    def view_made(self, view: EntryView) -> None:
        """A view came back; it may be the chosen one's."""
        self._mark(view.entry)

    @on(MessageView.Clicked)
    def _message_clicked(self, event: MessageView.Clicked) -> None:
        event.stop()
        self.selected = event.message_id

    def action_choose(self, by: int) -> None:
        """Choose the message before or after; in one longer than the view, scroll through it first."""
        entry = self._by_id.get(self.selected or "")
        if entry is None:
            self._choose_last_seen()
            return
        if self._scroll_within(entry, by):
            return
        column = self.column.entries
        index = entry.index + by
        while 0 <= index < len(column) and column[index].message is None:
            index += by
        if not 0 <= index < len(column):
            if by > 0:
                self.follow()
            return
        message = column[index].message
        assert message is not None
        self.selected = message.id
        self._bring_into_view(column[index], by)

    def _scroll_within(self, entry: Entry, by: int) -> bool:
        top = self.column.tops[entry.index]
        bottom, height = top + entry.height - 1, self.view_height
        hidden = bottom - (self.scroll_y + height) if by > 0 else self.scroll_y - top
        outside = top >= self.scroll_y + height or bottom <= self.scroll_y
        if hidden <= 0 or outside:
            return False
        self.scroll_to(y=self.scroll_y + by * min(hidden, height - 2), animate=False)
        return True

    def _bring_into_view(self, entry: Entry, by: int) -> None:
        top = self.column.tops[entry.index]
        bottom, height = top + entry.height, self.view_height
        if top >= self.scroll_y and bottom - 1 <= self.scroll_y + height:
            return
        fits = entry.height <= height
        upper = (by < 0) if fits else (by > 0)
        self.scroll_to(y=top if upper else bottom - height, animate=False)

    # --- keys ---

    def action_page(self, by: float) -> None:
        """Scroll by a part of the view."""
        self.scroll_to(y=self.scroll_y + round(by * max(self.view_height - 1, 1)), animate=False)

    def action_first(self) -> None:
        """Go to the first message."""
        first = next((entry for entry in self.column if entry.message), None)
        if first and first.message:
            self.selected = first.message.id
            self.go_to_entry(self.column.entries[0])

    def action_last(self) -> None:
        """Go to the end and stay there."""
        last = next((entry for entry in reversed(self.column.entries) if entry.message), None)
        self.selected = last.message.id if last and last.message else None
        self.follow()

    def action_act(self, action: Action) -> None:
        """Ask the app to do something with the chosen message, or the last one."""
        if (message_id := self._acted_on()) is None:
            return
        view = self._by_id[message_id].view
        if action == "unfold":
            if isinstance(view, MessageView):
                view.unfold()
            return
        text = self.screen.get_selected_text() or "" if action in ("copy", "quote") else ""
        if action == "copy_code":
            from glmtui.text.markdown import code_blocks

            blocks = code_blocks(answer_of(self._by_id[message_id].text))
            if not blocks:
                self.notify(_("There is no code block in this message."), markup=False)
                return
            number = self._code_at[1] + 1 if self._code_at[0] == message_id else 0
            self._code_at = (message_id, number)
            text = blocks[number % len(blocks)]
        self.post_message(self.MessageAction(self, message_id, action, text))

    def _acted_on(self) -> str | None:
        messages = (entry.message.id for entry in reversed(self.column.entries) if entry.message)
        message_id = self.selected or next(messages, None)
        return message_id if message_id in self._by_id else None

    def action_links(self) -> None:
        """Ask what to do with the links of the chosen message, or the last one."""
        from glmtui.text.markdown import links

        if message_id := self._acted_on():
            if found := links(self._by_id[message_id].text):
                self.post_message(self.LinkWanted(self, found))
            else:
                self.notify(_("There is no link in this message."), markup=False)

    @on(MessageView.ActionClicked)
    def _action_clicked(self, event: MessageView.ActionClicked) -> None:
        event.stop()
        self.selected = event.message_id
        self.action_act(event.action)

    @on(LinesView.LinkClicked)
    def _link_clicked(self, event: LinesView.LinkClicked) -> None:
        event.stop()
        self.post_message(self.LinkWanted(self, [event.href]))

    @on(LinesView.CodeClicked)
    def _code_clicked(self, event: LinesView.CodeClicked) -> None:
        event.stop()
        if isinstance(event.view, MessageView):
            self.post_message(self.MessageAction(self, event.view.message.id, "copy_code", event.code))


def _entry(message: Message, branches: Branches | None) -> Entry:
    return Entry(message.text, message, branch=(branches or {}).get(message.id, (1, 1)))
