"""The models there are: what is on this machine, what can be downloaded, what each needs; chosen by Enter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.i18n import _, tell
from glmtui.protocol.events import ModelList
from glmtui.protocol.models import ModelEntry, Quant
from glmtui.protocol.phrases import NOTHING
from glmtui.session import keys
from glmtui.session.model_lines import entry_name, recommendation
from glmtui.text.clean import one_line
from glmtui.text.columns import cell
from glmtui.text.units import parameters, size
from glmtui.tui.bindings import bindings
from glmtui.tui.screens.dialog import Dialog
from glmtui.tui.status.progress import progress
from glmtui.tui.transcript.prose import Prose

if TYPE_CHECKING:
    from glmtui.session.model_jobs import ModelJobs
    from glmtui.tui.session_app import SessionApp

QUANTS: tuple[Quant, ...] = ("none", "8", "4")
Question = Literal["download", "remove"]
_FORMAT = 6
"""Columns of the format of a model's files."""


class ModelTable(OptionList):
    """The rows; headings cannot be chosen. What keys do here is an action of the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("models")]


class ModelsScreen(Dialog[str | None]):
    """Lists the models; gives the name of the one to load (empty: the built-in one), or None.

    Args:
        first: the model to begin at; where it is not on this machine, the offer to download it is open.
    """

    app: SessionApp

    def __init__(self, first: str | None = None) -> None:
        super().__init__()
        self._first = first
        self._offers = first is not None
        self._asked_of: tuple[Question, ModelEntry] | None = None
        self._rows: list[ModelEntry | None] = []
        self._shown: object = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -tall", id="models"):
            yield Static(id="models-title", classes="dialog-title", markup=False)
            yield Static(id="models-head", markup=False)
            yield ModelTable(id="model-table", markup=False)
            yield Prose(id="model-details")
            yield Static(id="models-keys", classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        self.jobs.message = (NOTHING, "info")
        self.jobs.refresh()
        self.table.focus()
        self.draw()

    def on_resize(self, _event: events.Resize) -> None:
        self._shown = None
        self.call_after_refresh(self.draw)

    @property
    def jobs(self) -> ModelJobs:
        return self.app.session.models

    @property
    def table(self) -> ModelTable:
        return self.query_one(ModelTable)

    @property
    def chosen(self) -> ModelEntry | None:
        at = self.table.highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    @property
    def _question(self) -> Question | None:
        if self._asked_of is None or self.chosen is None or self.chosen.source != self._asked_of[1].source:
            return None
        return self._asked_of[0]

    # --- what a person does ---

    def action_use(self) -> None:
        entry, question = self.chosen, self._question
        if entry is None:
            return
        self._asked_of = None
        if question == "remove":
            self.jobs.remove(entry)
        elif question == "download":
            self.jobs.start(entry.source or "")
        elif entry.place == "absent" or (entry.place == "hub" and entry.problem):
            self.action_ask("download")  # of one that is not complete, what is missing
        elif not entry.problem:
            self.dismiss(entry.source or "")
        self.draw()

    def action_ask(self, question: Question) -> None:
        entry = self.chosen
        if entry is None:
            return
        if question == "remove" and not _is_removable(entry):
            self.app.say(_("Of {name} there is nothing to delete.").format(name=one_line(entry_name(entry))))
            return
        if question == "download" and self.jobs.download is not None:
            return
        self._asked_of = (question, entry)
        self.draw()

    def action_add(self) -> None:
        from glmtui.tui.screens.prompt import PromptScreen

        def take(folder: str | None) -> None:
            if folder and folder.strip():
                self.jobs.add(folder.strip())

        self.app.push_screen(PromptScreen(_("Folder of a model, or of several")), take)

    def action_back(self) -> None:
        if self._question is not None:
            self._asked_of = None
            self.draw()
        elif not self.jobs.cancel():
            self.dismiss(None)

    def action_refresh(self) -> None:
        self.jobs.refresh()

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if self._question is None:
            self._asked_of = None
        self._draw_details()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_use()

    # --- drawing ---

    def draw(self) -> None:
        if not self.is_mounted or not self.table.size:
            return
        models = self.jobs.models
        if models is not None and (models, self.jobs.download is None) != self._shown:
            self._shown = (models, self.jobs.download is None)
            self._fill(models)
        self._draw_title(models)
        self._draw_details()

    def _fill(self, models: ModelList) -> None:
        before = self.chosen
        servers = [entry for entry in models.entries if entry.place == "server"]
        here = [entry for entry in models.entries if entry.place not in ("absent", "server")]
        absent = [entry for entry in models.entries if entry.place == "absent"]
        if self._first and not any(_is(entry, self._first) for entry in models.entries):
            absent.insert(0, ModelEntry(self._first, self._first, "absent", hub_id=self._first))
        self._rows, options = [], []
        groups = [(_("On servers"), servers), (_("On this machine"), here), (_("To download"), absent)]
        for heading, entries in filter(lambda group: group[1], groups):
            above = "\n" if self._rows else ""
            options.append(Option(Content.styled(f"{above}{heading}", "$text-secondary"), disabled=True))
            self._rows.append(None)
            for entry in entries:
                options.append(Option(self._row(entry)))
                self._rows.append(entry)
        self.table.clear_options()
        self.table.add_options(options)
        self._highlight(before)
        self.query_one("#models-head", Static).update(self._head())

    def _highlight(self, before: ModelEntry | None) -> None:
        info = self.app.session.state.info
        named = self._first if self._offers else before.name if before else ""
        for name in (named, (info.source or "nano") if info else ""):
            for at, entry in enumerate(self._rows):
                if entry is not None and name and _is(entry, name):
                    self.table.highlighted = at
                    if self._offers and entry.place == "absent" and self.jobs.download is None:
                        self.call_after_refresh(self.action_ask, "download")
                    self._offers = False
                    return
        self.table.highlighted = 1

    @property
    def _free(self) -> int:
        """Memory that a model may take: what is free, and what the one that it replaces lets go."""
        models, info = self.jobs.models, self.app.session.state.info
        if models is None:
            return 0
        return models.free_memory + (info.memory_bytes if info and info.device == models.device else 0)

    def _columns(self) -> tuple[int, int, int]:
        """Return the widths of the name, of a figure, and of the parameters.

        In a narrow window there are no parameters (0), and no format of the files.
        """
        room = self.table.size.width - 2
        sized = 9 if room >= 80 else 0
        figures = 10 if room < 80 else 11 if room < 100 else 15
        return max(room - 4 * figures - (sized + _FORMAT if sized else 0), 12), figures, sized

    def _head(self) -> Content:
        name, figure, sized = self._columns()
        cells = [cell("  " + _("model"), name)]
        if sized:
            cells += [cell(_("params"), sized, right=True), cell(" " + _("files"), _FORMAT)]
        titles = (_("on disk"), _("in memory") if sized else _("memory"), _("8 bits"), _("4 bits"))
        cells += [cell(title, figure, right=True) for title in titles]
        return Content.styled("".join(cells), "$text-muted")

    def _row(self, entry: ModelEntry) -> Content:
        name, figure, sized = self._columns()
        info = self.app.session.state.info
        loaded = info is not None and entry.place != "absent" and info.source == entry.source
        mark = (
            ("● ", "$text-success")
            if loaded
            else ("! ", "$text-error")
            if entry.problem
            else ("★ ", "$text-warning")
            if entry.recommended
            else ("  ", "")
        )
        style = "bold $text-primary" if loaded else "$text" if entry.place != "absent" else "$text-muted"
        parts: list[tuple[str, str]] = [mark, (cell(one_line(entry_name(entry)), name - 2), style)]
        if sized:
            parts.append((cell(parameters(entry.parameters), sized, right=True), "$text-muted"))
            parts.append((cell(" " + entry.format.partition(" ")[0], _FORMAT), "$text-muted"))
        on_disk = size(entry.file_bytes) if entry.file_bytes else ""
        parts.append((cell(on_disk, figure, right=True), "$text"))
        needs = dict(entry.needs)
        as_it_is = needs.pop(entry.quant, None)
        for needed in (as_it_is, needs.get("8"), needs.get("4")):
            parts += self._need(needed, figure)
        return Content.assemble(*parts)

    def _need(self, needed: int | None, width: int) -> list[tuple[str, str]]:
        if needed is None:
            return [(" " * width, "")]
        fits = needed <= self._free
        return [
            (cell(size(needed), width - 2, right=True), "$text" if fits else "$text-muted"),
            (" ✓" if fits else " ✗", "$text-success" if fits else "$text-error"),
        ]

    def _draw_title(self, models: ModelList | None) -> None:
        title = Content.styled(_("Models"), "bold $text-primary")
        line = self.query_one("#models-title", Static)
        if models is None:
            line.update(title)
            return
        free = _("{memory} of memory free on {device}, {disk} on disk").format(
            memory=size(self._free), device=models.device.upper(), disk=size(models.free_disk)
        )
        space = max(line.size.width - title.cell_length - Content(free).cell_length, 2)
        line.update(Content.assemble(title, " " * space, (free, "$text-muted not bold")))

    def _draw_details(self) -> None:
        details, entry, download = self.query_one("#model-details", Prose), self.chosen, self.jobs.download
        details.set_class(self._question is not None, "-asking")
        if self._question is not None and entry is not None:
            details.update(self._asked(self._question, entry))
        elif download is not None:
            details.update(progress(download, details.size.width or 60))
        else:
            said, kind = self.jobs.message
            lines = [(tell(said), "$text-error" if kind == "error" else "$text-success")] if said else []
            details.update(
                Content("\n").join([Content.styled(*line) for line in [*lines, *self._about(entry)]])
            )
        self.query_one("#models-keys", Static).update(self._keys(entry))

    def _about(self, entry: ModelEntry | None) -> list[tuple[str, str]]:
        if self.jobs.models is None:
            return [(_("Looking …"), "$text-muted")]
        if entry is None:
            return []
        place = entry.path
        if entry.hub_id:  # a snapshot's folder is named by its commit
            place = " · ".join(filter(None, (entry.hub_id, Path(entry.path).name[:8])))
        lines = [(place, "$text-muted")]
        if entry.problem:
            return [*lines, (tell(entry.problem), "$text-error")]
        _name, _figure, sized = self._columns()
        facts = [entry.format] if entry.format and not sized else []
        if entry.max_length:
            facts.append(_("context of {count} tokens").format(count=f"{entry.max_length:,}"))
        if entry.recommended:
            lines.append((f"★ {recommendation(entry)}", "$text-warning"))
        if not entry.chats:
            facts.append(_("a base model: it continues a text and does not answer questions"))
        if entry.place == "absent" and entry.part_bytes:
            facts.append(
                _("{size} have come of a download that was stopped").format(size=size(entry.part_bytes))
            )
        lines.append((" · ".join(facts), "$text"))
        if entry.licence:
            lines.append((tell(entry.licence), "$text"))
        return lines

    def _asked(self, question: Question, entry: ModelEntry) -> Content:
        assert self.jobs.models is not None
        if question == "download":
            missing = max(entry.file_bytes - entry.part_bytes, 0)
            text = _("Download {name} ({size}) from {server} into {folder}, where {free} are free?").format(
                name=entry.name,
                size=f"≈ {size(missing)}" if missing else _("its size is not known yet"),
                server=os.environ.get("HF_ENDPOINT") or "huggingface.co",
                folder=self.jobs.models.cache,
                free=size(self.jobs.models.free_disk),
            )
        elif entry.place == "folder":
            text = _("Take {path} off the list? Its files stay.").format(path=entry.path)
        else:
            text = _("Delete {name} from the disk ({size})?").format(
                name=entry.name, size=size(entry.part_bytes or entry.file_bytes)
            )
        licence = f"\n{tell(entry.licence)}" if question == "download" else ""
        return Content.assemble((text, "bold $text-warning"), (licence, "$text-muted"))

    def _keys(self, entry: ModelEntry | None) -> Content:
        own = self.app.settings.keys

        def key(name: str) -> str:
            return keys.shown(f"models.{name}", own)

        if self._question is not None:
            hints = [(key("use"), _("yes")), (key("back"), _("no"))]
        else:
            absent = entry is not None and entry.place == "absent"
            hints = [(key("use"), _("download") if absent else _("load"))]
            hints.append((key("add"), _("add a folder")))
            if entry is not None and _is_removable(entry):
                hints.append((key("remove"), _("delete")))
            if self.jobs.download is not None:
                hints += [(key("back"), _("stop the download")), (key("close"), _("close, and let it go on"))]
            else:
                hints.append((key("back"), _("close")))
        return Content("   ").join(
            Content.assemble((name, "bold $text-secondary"), (f" {text}", "$text-muted"))
            for name, text in hints
        )


def _is_removable(entry: ModelEntry) -> bool:
    """Whether something of it is on this machine that can go."""
    return entry.place in ("hub", "folder") or (entry.place == "absent" and entry.part_bytes > 0)


def _is(entry: ModelEntry, name: str) -> bool:
    """Whether a person means this model by `name`."""
    return (
        name.lower() in (entry.name.lower(), entry.hub_id.lower(), (entry.source or "").lower())
        or name == entry.path
    )
