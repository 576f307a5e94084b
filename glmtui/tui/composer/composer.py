"""Where the person writes: the text area, the popup over it, the history of prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import ClassVar

from textual import on
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import var
from textual.widgets import TextArea

from glmtui import paths
from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.protocol.phrases import Sayable
from glmtui.session import pictures
from glmtui.session.attached_file import AttachedFile, is_file
from glmtui.text.clean import clean, one_line
from glmtui.tui.bindings import bindings
from glmtui.tui.composer import mentions
from glmtui.tui.composer.completion import Completion, CompletionList
from glmtui.tui.composer.prompt import Prompt

Completions = Callable[[str], Sequence[Completion]]
"""Given the text up to the cursor (it begins with a slash and is one line), what could replace it."""
Files = Callable[[str], Sequence[Completion]]
"""Given what was typed behind an ``@``, the files that may be meant (their paths as `Completion.text`).

It is called in a thread of its own: a folder may be large, or far away.
"""
Take = Callable[[str], tuple[Sayable, AttachedFile]]
"""Given a path: a label and the file. Raises `UserError` where the file is not fit to be sent."""
NamePicture = Callable[[Path], str]
"""Given a picture's file: the name by which it goes with the message. Raises `UserError`."""
FOUND = 50
"""The most earlier prompts that a search offers."""


class Composer(Vertical):
    """A multi-line input that grows to a third of the screen.

    Enter sends and ctrl+j makes a new line, or the other way round with `enter_sends` off. Up on the
    first line and down on the last walk the history of prompts. `text` is always the complete text, also
    where a long paste is folded to a placeholder.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("composer")]

    @dataclass
    class Submitted(Message):
        """The person sent `text` (folded pastes in full, not blank), and files with it."""

        text: str
        attached: tuple[AttachedFile, ...] = ()

    class Changed(Message):
        """The text changed."""

    @dataclass
    class Found(Message):
        """The files that may be meant by `name` are known."""

        name: str
        files: Sequence[Completion]

    @dataclass
    class AfterSent(Message):
        """Something to do when all that was sent before is known: it comes in order with `Submitted`."""

        work: Callable[[], Awaitable[None]]

    enter_sends = var(True)
    """Enter sends and ctrl+j makes a new line; False: the reverse."""

    def __init__(
        self,
        *,
        completions: Completions | None = None,
        files: Files | None = None,
        take_file: Take | None = None,
        holds_secret: Callable[[str], bool] = lambda _text: False,
        name_picture: NamePicture | None = None,
        history: Sequence[str] = (),
        enter_sends: bool = True,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self.completions = completions
        self.files = files
        self.take_file = take_file
        self.holds_secret = holds_secret
        """Whether what was sent is not to be shown again."""
        self.name_picture = name_picture
        self.prompt = Prompt(self, history)
        self.prompt.pasted = self._pasted
        self.popup = CompletionList()
        self._searching = False
        self._named: str | None = None
        """The name whose files are offered or being looked for."""
        self._offered_for = ""
        self._keys = "Enter", "Ctrl+J"
        self.set_reactive(Composer.enter_sends, enter_sends)

    def compose(self) -> ComposeResult:
        yield self.popup
        yield self.prompt

    def on_mount(self) -> None:
        self.watch_enter_sends()

    def watch_enter_sends(self) -> None:
        enter, other = self._keys
        send, line = (enter, other) if self.enter_sends else (other, enter)
        self.prompt.placeholder = _("Message — {send} sends, {line} new line, / commands").format(
            send=send, line=line
        )

    def show_keys(self, enter: str, other: str) -> None:
        """Say that these keys do what Enter and ctrl+j do as shipped."""
        if (enter, other) != self._keys:
            self._keys = enter, other
            self.watch_enter_sends()

    # --- what the app uses ---

    @property
    def text(self) -> str:
        """What is written, with folded pastes in full."""
        return self.prompt.full_text

    @text.setter
    def text(self, value: str) -> None:
        self.prompt.set_text(value)

    def written(self) -> tuple[str, tuple[AttachedFile, ...]]:
        """Return what is written as it is sent, with folded pastes in full, and the files that it names."""
        return self.prompt.folds.sent(self.prompt.text)

    def focus(self, scroll_visible: bool = True) -> Composer:
        self.prompt.focus(scroll_visible)
        return self

    def quote(self, text: str) -> None:
        before = "" if not self.prompt.text_before_cursor.strip() else "\n"
        lines = "".join(f"> {line}".rstrip() + "\n" for line in text.strip().split("\n"))
        self.prompt.insert_text(f"{before}{lines}\n")
        self.focus()

    # --- sending ---

    def action_enter(self) -> None:
        """Take what the popup offers; else send, or make a new line where Enter does not send."""
        if self._take_offer(send=True) if self.popup.is_open else self._take_named():
            return
        if self.enter_sends:
            self.send()
        else:
            self.prompt.insert_text("\n")

    def action_other_enter(self) -> None:
        if self.enter_sends:
            self.prompt.insert_text("\n")
        else:
            self.send()

    def send(self) -> None:
        text, attached = self.written()
        if text.strip():
            if not self.holds_secret(text):
                self.prompt.remember(self.text)
            self.text = ""
            self.post_message(self.Submitted(text, attached))

    # --- the popup ---

    @on(TextArea.Changed)
    def _text_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.catch_up()
        self.post_message(self.Changed())

    @on(TextArea.SelectionChanged)
    def _cursor_moved(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        if self.popup.is_open or self._named is not None:
            self._offer()

    def _offer(self) -> None:
        self._offered_for = self.prompt.text
        before, named, self._named = self.prompt.text_before_cursor, self._named, None
        offers: Sequence[Completion] = ()
        if self._searching:
            offers = self._earlier(self.prompt.text)
        elif self.completions and before.startswith("/") and "\n" not in before and not self.prompt.walking:
            offers = self.completions(before)
        elif self.files and not self.prompt.walking and (name := self._mention(before)) is not None:
            self._named = name
            if name == named:
                return
            # Those that still may be meant stay until the others are found.
            offers = [offer for offer in self.popup.offers if mentions.score_of(name, offer.text) is not None]
            self._look_for(name, self.files)
        self._show(offers)

    def _look_for(self, name: str, files: Files) -> None:
        def look() -> None:
            self.post_message(self.Found(name, files(name)))

        Thread(target=look, name="glmtui-files", daemon=True).start()

    @on(Found)
    def _files_found(self, event: Found) -> None:
        event.stop()
        if event.name == self._named:  # else something else has been written since
            self._show(event.files)

    def _show(self, offers: Sequence[Completion]) -> None:
        self.popup.show(offers, index=len(offers) - 1 if self._searching else 0)

    def _take_offer(self, *, send: bool = False) -> bool:
        """Write the chosen offer. With `send`, False when it is already written and may be sent."""
        offer, searching = self.popup.current, self._searching
        self._searching = False
        if offer is None:
            return False
        before = self.prompt.text_before_cursor
        if send and not searching and self._as_typed(before, offer):
            self._show(())
            return False
        if searching:
            self.prompt.set_text(offer.text)
        elif (name := self._mention(before)) is not None:
            self._take_file(name, offer.text)
            return True
        else:
            self.prompt.replace(
                offer.text, (0, 0), self.prompt.cursor_location, maintain_selection_offset=False
            )
        complete = not offer.text.endswith(" ")
        if complete:
            self._show(())
        return not (send and complete and not searching and self.enter_sends)

    def _as_typed(self, before: str, offer: Completion) -> bool:
        """Whether Enter leaves what is typed as it is: it is all of an offer, or may be a new name."""
        offers = [offer] if self.popup.walked else self.popup.offers
        complete = any(each.text.rstrip() == before.rstrip() for each in offers)
        return complete or (offer.optional and not self.popup.walked)

    def _mention(self, before: str) -> str | None:
        """Return what was typed behind an ``@``; a command's line has none."""
        is_command = before.startswith("/") and "\n" not in before
        return None if self.files is None or is_command else mentions.typed(before)

    def _take_file(self, name: str, path: str) -> None:
        """Put the file that was chosen in the place of its name, or go into the folder."""
        self._show(())
        typed = f"@{name}"
        if path.endswith("/"):
            row, column = self.prompt.cursor_location
            start = (row, column - len(typed))
            self.prompt.replace(f"@{path}", start, (row, column), maintain_selection_offset=False)
            return
        try:
            if self.name_picture is not None and pictures.is_picture(path):
                row, column = self.prompt.cursor_location
                start = (row, column - len(typed))
                self.prompt.replace(self._named_picture(paths.typed(path)), start, (row, column))
                return
            assert self.take_file is not None
            label, file = self.take_file(path)
        except UserError as error:
            self.notify(tell(error), severity="error", markup=False)
            return
        self.prompt.put_file(typed, tell(label), file)

    def _take_named(self) -> bool:
        """Take the file whose complete name is written before those that may be meant were found."""
        name = self._named
        if not name or not is_file(name) or pictures.is_picture(name):  # they go by their names
            return False
        self._take_file(name, name)
        return True

    def _named_picture(self, path: Path) -> str:
        """Return what stands for a picture that goes with the message."""
        assert self.name_picture is not None
        name = self.name_picture(path)
        return self.prompt.folds.keep(name, f"@{name}") + " "

    def _pasted(self, text: str) -> str:
        """Return what to write for a paste; the paths of pictures, as terminals write them, are pictures."""
        before = self.prompt.text_before_cursor
        is_command = before.startswith("/") and "\n" not in before
        found = pictures.dropped(text) if self.name_picture is not None and not is_command else []
        try:
            if found:
                return "".join(map(self._named_picture, found))
        except UserError as error:
            self.notify(tell(error), severity="warning", markup=False)
        return self.prompt.folds.fold(text)

    def catch_up(self) -> bool:
        """Offer what fits what is written by now, also before word of the change is here."""
        if self.prompt.text != self._offered_for:
            self._offer()
        return self.popup.is_open

    def press(self, key: str) -> None:
        """Take a key that belongs to the popup."""
        if key == "escape":
            self._searching, self._named = False, None
            self._show(())
        elif key == "tab":
            self._take_offer()
        else:
            self.popup.move(-1 if key in ("up", "ctrl+p") else 1)

    @on(CompletionList.Chosen)
    def _offer_clicked(self, event: CompletionList.Chosen) -> None:
        event.stop()
        self._take_offer()
        self.focus()

    # --- the draft ---

    def show_count(self, tokens: int, left: int) -> None:
        """Say how many tokens the draft has and how many are left for it and the answer."""
        shown = bool(tokens) and bool(self.prompt.text.strip())
        text = _("uses {n} of {left} tokens")
        self.prompt.border_subtitle = text.format(n=f"{tokens:,}", left=f"{max(left, 0):,}") if shown else ""
        self.prompt.set_class(shown and tokens > left, "-too-long")

    def show_editing(self, editing: bool) -> None:
        self.prompt.border_title = _("Another version of your message · Esc: as a new one") if editing else ""

    def action_expand(self) -> None:
        if not self.prompt.unfold():
            self.notify(_("Nothing is folded here."), markup=False)

    def action_edit_outside(self) -> None:
        """Write in the person's own editor; what is written there comes back, whatever happens."""
        from glmtui.tui.composer import editor

        text = self.text
        try:
            command = editor.command()
            with self.app.suspend():
                written, wrong = editor.edit(text, command)
        except (UserError, SuspendNotSupported) as error:
            self.notify(tell(error), severity="error", markup=False)
            return
        if clean(written) != text:
            self.prompt.set_text(self.prompt.folds.refold(clean(written)))
        if wrong:
            self.notify(wrong, severity="warning", markup=False)
        self.focus()

    # --- history ---

    def action_older(self) -> None:
        self.prompt.action_older()

    def action_newer(self) -> None:
        self.prompt.action_newer()

    def action_search_history(self) -> None:
        self._searching = True
        self._offer()
        if not self.popup.is_open:
            self._searching = False
            self.notify(_("No earlier prompt has this in it."), markup=False)

    def _earlier(self, text: str) -> list[Completion]:
        words = text.lower().split()
        found: dict[str, None] = {}
        for entry in reversed(self.prompt.sent):
            low = entry.lower()
            if entry not in found and all(word in low for word in words):
                found[entry] = None
                if len(found) == FOUND:
                    break
        return [Completion(entry, label=one_line(entry)) for entry in reversed(found)]
