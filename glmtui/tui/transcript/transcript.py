"""The conversation on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import events, on
from textual.binding import BindingType
from textual.message import Message as TextualMessage
from textual.reactive import var

from glmtui.i18n import _, tell
from glmtui.protocol.messages import Image
from glmtui.session.events import Versions
from glmtui.tui.bindings import bindings
from glmtui.tui.pictures.gallery import Gallery, Small
from glmtui.tui.transcript.column import Entry
from glmtui.tui.transcript.message import (
    ACTION,
    FOLD,
    PICTURE,
    Action,
    AnswerEntry,
    Contents,
    MessageEntry,
    NoticeEntry,
    Seen,
)
from glmtui.tui.transcript.text_scroll import TextScroll

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message

NoticeKind = Literal["info", "warning", "error", "markdown"]
NO_VERSIONS: Versions = MappingProxyType({})


class Transcript(TextScroll):
    """Messages and notices, oldest first. With the focus, keys choose a message and act on it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("transcript")]

    selected: var[str | None] = var(None)
    """Id of the message that keys act on."""

    @dataclass
    class MessageAction(TextualMessage):
        """Something is to be done with a message.

        `text` is what to copy or to quote where that is not the complete message: what is selected with the
        mouse, or the code block.
        """

        message_id: str
        action: Action
        text: str = ""

    @dataclass
    class SourcesRequested(TextualMessage):
        """The passages that a message rests on are asked for."""

        message_id: str

    @dataclass
    class LinksRequested(TextualMessage):
        """A link was clicked, or the links of a message are asked for. Nothing has been opened."""

        links: Sequence[str]

    @dataclass
    class PictureRequested(TextualMessage):
        """A picture of a message is to be shown in full: the part with this number."""

        message_id: str
        number: int

    def __init__(
        self,
        contents: Contents | None = None,
        gallery: Gallery | None = None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """Begin with an empty transcript; `contents` reads the attachments that are opened."""
        super().__init__(id=id)
        self.following = True
        self._contents = contents
        self._gallery = gallery
        self._by_id: dict[str, MessageEntry] = {}
        self._last: MessageEntry | None = None
        self._code_at: tuple[str, int] = ("", 0)

    # --- what the app asks for ---

    def show(self, messages: Sequence[Message], *, branches: Versions = NO_VERSIONS) -> None:
        self.selected = None
        if self._gallery is not None:
            self._gallery.forget_failures()
        self._by_id = {message.id: self._entry(message, branches) for message in messages}
        self.clear_entries()
        self._mark_last(messages)
        self.append_entries(self._by_id.values(), follow=True)

    def show_changes(self, messages: Sequence[Message], *, branches: Versions = NO_VERSIONS) -> None:
        """Show another branch of what is here: what both begin with stays, and so does what is read."""
        for message_id in self._by_id.keys() - {message.id for message in messages}:
            self.remove_message(message_id)
        new = {
            message.id: self._entry(message, branches)
            for message in messages
            if message.id not in self._by_id
        }
        for message in messages[: len(messages) - len(new)]:
            self.replace(message, branches=branches)
        self._by_id |= new
        self._mark_last(messages)
        if new:
            self.append_entries(new.values(), follow=self.following)

    def add(self, message: Message, *, branches: Versions = NO_VERSIONS) -> None:
        self._append(self._entry(message, branches), follow=True)

    def begin_answer(self, message: Message, *, branches: Versions = NO_VERSIONS) -> AnswerEntry:
        self.remove_message(message.id)
        entry = AnswerEntry(message, self, branches.get(message.id, (1, 1)), self._contents, self)
        self._append(entry, follow=self.following)
        return entry

    def replace(self, message: Message, *, branches: Versions = NO_VERSIONS) -> None:
        if entry := self._by_id.get(message.id):
            entry.show(message, branches.get(message.id, (1, 1)))
            self.entry_changed(entry)

    def remove_message(self, message_id: str) -> None:
        if entry := self._by_id.pop(message_id, None):
            if self.selected == message_id:
                self.selected = None
            self.remove_entry(entry)

    def notice(self, text: str, kind: NoticeKind = "info") -> None:
        self.append_entries([NoticeEntry(text, kind)], follow=True)

    def _entry(self, message: Message, branches: Versions) -> MessageEntry:
        return MessageEntry(message, branches.get(message.id, (1, 1)), self._contents, self)

    def look(self, entry: MessageEntry, image: Image, width: int) -> Seen:
        """Return what there is of a picture; the entry is changed when there is more."""
        if self._gallery is None:
            return Seen()
        ready = partial(self.entry_changed, entry)
        found = self._gallery.look(image, ready)
        if isinstance(found, Small):
            return Seen("{} × {}".format(*found.size), self._gallery.thumbnail(image, found, width, ready))
        return Seen(tell(found) if found is not None else "…")

    def pictures_changed(self) -> None:
        """Draw pictures anew: they are drawn in another way now."""
        for entry in self._by_id.values():
            if any(isinstance(part, Image) for part in entry.message.parts):
                self.entry_changed(entry)

    def _append(self, entry: MessageEntry, *, follow: bool) -> None:
        self._by_id[entry.message.id] = entry
        self._mark_last([entry.message])
        self.append_entries([entry], follow=follow)

    def _mark_last(self, messages: Sequence[Message]) -> None:
        """Only the last message offers to continue it."""
        last = self._by_id[messages[-1].id] if messages else None
        for entry in (self._last, last):
            if entry and entry.last != (entry is last):
                entry.last = entry is last
                self.entry_changed(entry)
        self._last = last

    def on_mount(self) -> None:
        self.update()
        if isinstance(self._last, AnswerEntry):
            self._last.schedule()

    def go_to(self, message_id: str) -> bool:
        entry = self._by_id.get(message_id)
        if entry is None:
            return False
        self.selected = message_id
        self.go_to_entry(entry)
        return True

    # --- choosing ---

    def watch_selected(self, old: str | None, new: str | None) -> None:
        for message_id in (old, new):
            if message_id and (entry := self._by_id.get(message_id)):
                self._mark(entry)

    def _mark(self, entry: MessageEntry) -> None:
        chosen = self.has_focus and entry.message.id == self.selected
        if chosen != entry.chosen:
            entry.chosen = chosen
            self.entry_changed(entry)
            self.refresh()  # the bar next to every line

    def watch_has_focus(self, has_focus: bool) -> None:
        """Choose the last message in view, unless one is chosen; it is marked while keys act on it."""
        super().watch_has_focus(has_focus)
        if has_focus and self.selected is None:
            self._choose_last_seen()
        elif entry := self._by_id.get(self.selected or ""):
            self._mark(entry)

    def _choose_last_seen(self) -> None:
        self.selected = self._last_before(self.column.at(self.scroll_y + self.view_height - 1))

    def _last_before(self, index: int | None = None) -> str | None:
        """Return the id of the last message up to an index of the column, or of all."""
        before = self.column.entries[: None if index is None else index + 1]
        entries = (entry for entry in reversed(before) if isinstance(entry, MessageEntry))
        return next((entry.message.id for entry in entries), None)

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
        while 0 <= index < len(column):
            if isinstance(found := column[index], MessageEntry):
                self.selected = found.message.id
                self.column.measure(found)
                self._bring_into_view(found, by)
                return
            index += by
        if by > 0:
            self.follow()

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
        self.scroll_to(y=self.scroll_y + round(by * max(self.view_height - 1, 1)), animate=False)

    def action_first(self) -> None:
        if first := next(iter(self._by_id), None):
            self.selected = first
            self.go_to_entry(self.column.entries[0])

    def action_last(self) -> None:
        self.selected = self._last_before()
        self.follow()

    def action_act(self, action: Action) -> None:
        if (message_id := self._acted_on()) is None:
            return
        entry = self._by_id[message_id]
        if action == "unfold":
            if not entry.folds:
                self.notify(_("Nothing is folded here."), markup=False)
            entry.unfold()
            self.entry_changed(entry)
            return
        text = self.screen.get_selected_text() or "" if action in ("copy", "quote") else ""
        if action == "copy_code":
            from glmtui.text.markdown import code_blocks

            blocks = code_blocks(entry.message.text)
            if not blocks:
                self.notify(_("There is no code block in this message."), markup=False)
                return
            number = self._code_at[1] + 1 if self._code_at[0] == message_id else 0
            self._code_at = (message_id, number)
            text = blocks[number % len(blocks)]
        self.post_message(self.MessageAction(message_id, action, text))

    def _acted_on(self) -> str | None:
        message_id = self.selected or self._last_before()
        return message_id if message_id in self._by_id else None

    def action_sources(self) -> None:
        if message_id := self._acted_on():
            self.post_message(self.SourcesRequested(message_id))

    def action_pictures(self) -> None:
        """Ask for the pictures of the message; of one without, for those that it may be about."""
        ids = list(self._by_id)
        acted_on = self._acted_on()
        for message_id in reversed(ids[: ids.index(acted_on) + 1] if acted_on else []):
            parts = self._by_id[message_id].message.parts
            for number, part in enumerate(parts):
                if isinstance(part, Image):
                    self.post_message(self.PictureRequested(message_id, number))
                    return
        self.notify(_("There is no picture in this message, nor before it."), markup=False)

    def action_links(self) -> None:
        from glmtui.text.markdown import links

        if message_id := self._acted_on():
            if found := links(self._by_id[message_id].text):
                self.post_message(self.LinksRequested(found))
            else:
                self.notify(_("There is no link in this message."), markup=False)

    def entry_clicked(self, entry: Entry, y: int, event: events.Click) -> None:
        if isinstance(entry, MessageEntry):
            self.selected = entry.message.id
            meta = event.style.meta
            if action := meta.get(ACTION):
                self.action_act(action)
                return
            if (number := meta.get(PICTURE)) is not None:
                self.post_message(self.PictureRequested(entry.message.id, number))
                return
            if (number := meta.get(FOLD)) is not None:
                entry.unfold(number)
                self.entry_changed(entry)
                return
        super().entry_clicked(entry, y, event)

    @on(TextScroll.LinkClicked)
    def _link_clicked(self, event: TextScroll.LinkClicked) -> None:
        event.stop()
        self.post_message(self.LinksRequested([event.href]))

    @on(TextScroll.CodeClicked)
    def _code_clicked(self, event: TextScroll.CodeClicked) -> None:
        event.stop()
        if isinstance(event.entry, MessageEntry):
            self.post_message(self.MessageAction(event.entry.message.id, "copy_code", event.code))
