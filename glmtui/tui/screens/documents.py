"""The collections of documents: what is in them, and which one answers rest on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.errors import UserError
from glmtui.i18n import _, ngettext, tell
from glmtui.session import keys
from glmtui.session.documents import Listed, file_line, listed
from glmtui.text.clean import one_line
from glmtui.tui.bindings import bindings
from glmtui.tui.screens.dialog import Dialog
from glmtui.tui.transcript.prose import Prose

if TYPE_CHECKING:
    from glmtui.retrieval.index import FileRecord
    from glmtui.tui.session_app import SessionApp

REDRAW_SECONDS = 0.3


class DocumentList(OptionList):
    """The rows; what keys do here is an action of the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("documents")]


class DocumentsScreen(Dialog[None]):
    """Lists collections with their files; what is done with them goes the way of the commands."""

    app: SessionApp

    def __init__(self) -> None:
        super().__init__(_("Documents"), tall=True)
        self._rows: list[tuple[Listed, FileRecord | None]] = []
        self._problem = ""
        self._doubted: str | None = None
        """The collection that is removed when its key is pressed once more."""

    def body(self) -> Iterable[Widget]:
        yield DocumentList(id="document-list", markup=False)
        yield Prose(id="document-details")

    async def on_mount(self) -> None:
        self.list.focus()
        self.set_interval(REDRAW_SECONDS, self._draw_details)
        await self._look()

    @property
    def list(self) -> DocumentList:
        return self.query_one(DocumentList)

    @property
    def chosen(self) -> tuple[Listed, FileRecord | None] | None:
        at = self.list.highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    @property
    def used(self) -> str:
        """The collection that answers of the open conversation rest on."""
        session = self.app.session
        return session.context.collection(session.conversation)

    # --- what a person does ---

    def action_use(self) -> None:
        if self.chosen is not None:
            name = self.chosen[0].collection.name
            self._do(self.app.session.run("docs", f"use {'none' if name == self.used else name}"))

    def action_add(self) -> None:
        self._do(self._add())

    async def _add(self) -> None:
        if path := await self.app.ask(_("A file, a folder or an address")):
            await self.app.session.run("docs", f"add {path}")

    def action_update(self) -> None:
        if self.chosen is not None:
            self._do(self.app.session.run("docs", f"update {self.chosen[0].collection.name}"))

    def action_remove(self) -> None:
        if self.chosen is None:
            return
        name = self.chosen[0].collection.name
        if self._doubted == name:
            self._do(self.app.session.run("docs", f"remove {name}"))
        self._doubted = None if self._doubted == name else name
        self._draw_details()

    def action_back(self) -> None:
        """Stop what is being read; else close."""
        if not self.app.session.documents.stop():
            self.dismiss()

    def _do(self, work: Awaitable[None]) -> None:
        async def then_look() -> None:
            await work
            if self.is_mounted:
                await self._look()

        self.app.do(then_look())

    # --- what is shown ---

    async def _look(self) -> None:
        """Read what there is, off the event loop."""
        chosen = self.list.highlighted
        try:
            found = await asyncio.to_thread(listed)
            self._problem = ""
        except UserError as error:
            found, self._problem = [], tell(error)
        self._rows = [row for each in found for row in ((each, None), *((each, file) for file in each.files))]
        self.list.clear_options()
        self.list.add_options(Option(self._row(*row)) for row in self._rows)
        if chosen is None:
            in_use = (at for at, (each, _file) in enumerate(self._rows) if each.collection.name == self.used)
            chosen = next(in_use, 0)
        self.list.highlighted = min(chosen, len(self._rows) - 1) if self._rows else None
        self._draw_details()

    def _row(self, listed_: Listed, file: FileRecord | None) -> Content:
        if file is not None:
            style = "$text-error" if file.error else "$text-warning" if file.notes else "$text-muted"
            return Content.assemble(
                "    ", (one_line(file.title), "$text"), "  ", (one_line(file_line(file)), style)
            )
        name = listed_.collection.name
        if listed_.error:
            return Content.assemble(
                "  ", (name, "bold $text-primary"), "  ", (tell(listed_.error), "$text-error")
            )
        count = len(listed_.files)
        facts = [ngettext("{n} document", "{n} documents", count).format(n=count)]
        facts.append(ngettext("{n} passage", "{n} passages", listed_.passages).format(n=listed_.passages))
        facts += [_("follows its folders")] if listed_.collection.follows else []
        mark = ("● ", "$text-success") if name == self.used else ("  ", "")
        return Content.assemble(mark, (name, "bold $text-primary"), "  ", (" · ".join(facts), "$text-muted"))

    def on_option_list_option_highlighted(self) -> None:
        self._doubted = None
        self._draw_details()

    def _draw_details(self) -> None:
        own = self.app.settings.keys
        self.query_one("#document-details", Prose).update(self._details())
        names = (
            ("use", _("use, or no longer")), ("add", _("add")), ("update", _("read what changed")),
            ("remove", _("remove")), ("back", _("close")),
        )  # fmt: skip
        hints = [f"{keys.shown(f'documents.{name}', own)} {text}" for name, text in names]
        self.query_one(".dialog-keys", Static).update("   ".join(hints))

    def _details(self) -> Content:
        if (progress := self.app.session.documents.progress) is not None:
            name, done, total = progress
            text = _("Reading {name}: {done} of {total} documents").format(name=name, done=done, total=total)
            return Content.styled(text, "$text-primary")
        if self._problem:
            return Content.styled(self._problem, "$text-error")
        if self.chosen is None:
            return Content.styled(_("There are no collections yet."), "$text-muted")
        listed_, file = self.chosen
        if self._doubted == listed_.collection.name:
            text = _("Remove the collection {name}? Its documents stay. The same key again removes it.")
            return Content.styled(text.format(name=self._doubted), "bold $text-warning")
        about = file.origin if file is not None else "\n".join(listed_.collection.roots)
        return Content.styled(about, "$text-muted")
