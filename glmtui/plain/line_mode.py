"""The line mode: the app's conversations and commands, one line after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import i18n
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.interrupts import INTERRUPTED
from glmtui.plain.driver import POLL_SECONDS, Driver
from glmtui.plain.line_printer import LinePrinter
from glmtui.plain.printer import Paint, wants_color
from glmtui.plain.reader import Reader, read_message
from glmtui.session import keys, pictures, preferences, themes
from glmtui.session.attached_file import AttachedFile, files_named_in, take
from glmtui.session.chat_session import ChatSession
from glmtui.session.documents import collection_lines, listed
from glmtui.session.model_lines import model_lines
from glmtui.session.options import AppOptions
from glmtui.session.slash.registry import COMMANDS
from glmtui.settings.schema import BY_KEY, SCHEMA
from glmtui.streams import Output, Safe
from glmtui.text.clean import flat, one_line

if TYPE_CHECKING:
    from glmtui.chat.library import Summary
    from glmtui.protocol.engine import Engine
    from glmtui.protocol.phrases import Sayable
    from glmtui.session.events import Kind
    from glmtui.session.ui import View
    from glmtui.settings.settings import Settings

LISTED = 20
"""Conversations that are listed at once."""


class LineMode:
    """Reads a line, does what it says, writes what came of it. It is the session's `Ui`.

    Args:
        options: what the command line said.
        settings: read already.
        reader: where lines come from.
        output: takes answers and what commands say.
        errors: takes notices and progress.
        make_engine: makes what runs the model.
    """

    has_keys = False

    def __init__(
        self,
        options: AppOptions,
        settings: Settings,
        reader: Reader,
        output: Output,
        errors: Output,
        make_engine: Callable[[], Engine],
    ) -> None:
        self._options = options
        self._settings = settings
        settings.override(options.settings)
        i18n.use(str(settings["ui.language"]))
        i18n.write_options(COMMANDS.option)
        paint, paint_errors = (
            Paint(wants_color(options.color, bool(settings["ui.plain_color"]), stream))
            for stream in (output, errors)
        )
        self.printer = LinePrinter(output, errors, paint, paint_errors)
        self.session = ChatSession(make_engine, Library(), settings, self, COMMANDS)
        self.session.subscribe(self.printer.on_event)
        self._reader = reader
        self._driver = Driver(self.session, self.printer.stream)
        self._draft = ""
        self._leaving = False

    def run(self) -> int:
        """Read and do until the person leaves; return the exit code.

        A script (lines that nobody types) that met an error ends with 1.
        """
        self._reader.prepare(self.session.workspace.prompts.entries(), self._offers)
        try:
            self._driver.run(self._begin())
            while not self._leaving:
                self._read_and_do()
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            self._driver.close()
        return 1 if self.printer.failed and not self._reader.interactive else 0

    async def _begin(self) -> None:
        for problem in preferences.problems(self._settings):
            self.session.notice(problem, "warning")
        if self._options.conversation is not None:
            await self.session.open_first(self._options.conversation)
        else:
            self._draft = self.session.workspace.draft(None).text
        self.session.load()
        if self._reader.interactive:
            self.say(_("/help lists the commands, Ctrl+C stops an answer, Ctrl+D quits."))

    def _read_and_do(self) -> None:
        typed = self._reader.interactive
        try:
            prompt = self.printer.paint.heading(_("You"), "person")
            line = read_message(self._reader, prompt, self._draft if typed else "")
        except EOFError:
            self._leaving = True
            if typed:
                self.say("")
            return
        except KeyboardInterrupt:
            line = ""
            self.say("")
            self.say(_("Ctrl+D quits."))
        if typed:
            self._draft = ""
        if line.strip():
            if not self.session.holds_secret(line):
                self._reader.remember(line)
            self._driver.run(self._enter(line))

    async def _enter(self, line: str) -> None:
        """Send a line with the text files that it names, or do what it commands."""
        try:
            line, attached = self._with_files(line)
        except UserError as error:
            self.session.notice(error.phrase, "error")
            self.put_draft(line)
            return
        await self.session.enter(line, attached)

    def _with_files(self, line: str) -> tuple[str, Sequence[AttachedFile]]:
        if COMMANDS.parse(line) is not None:
            return line, ()
        line, names = files_named_in(line)
        taken = [take(name, self.session.state.limit) for name in names if not pictures.is_picture(name)]
        for label, _file in taken:
            self.session.notice(label)
        return line, [file for _label, file in taken]

    def _offers(self, before: str) -> Sequence[str]:
        return [text for text, _description, _label in COMMANDS.offers(self.session, before)]

    # --- what the session needs (`Ui`) ---

    def say(self, text: Sayable, kind: Kind = "info", *, markdown: bool = False) -> None:
        if kind == "info":
            self.printer.say(text, markdown=markdown)
        else:
            self.printer.notice(text, kind)

    async def ask(self, title: Sayable, value: str = "") -> str | None:
        try:
            return self._reader.read(Safe(flat(f"{tell(title)}: ")), value)
        except (EOFError, KeyboardInterrupt):
            return None

    async def choose(self, title: Sayable, choices: Sequence[Sayable]) -> int | None:
        if not self._reader.interactive:  # the next line of a script is meant for something else
            return None
        self.say(title)
        self._list(map(tell, choices))
        chosen = await self.ask(_("Number"))
        number = int(chosen) if chosen and chosen.strip().isdecimal() else 0
        return number - 1 if 0 < number <= len(choices) else None

    def copy(self, text: str) -> None:
        """Copy by the platform's tool: a terminal is not controlled from here."""
        from glmtui.session import clipboard

        if not clipboard.copy_with_tool(text):
            raise UserError(_("There is no clipboard here. /export writes a file."))
        self.say(_("Copied"))

    def draft(self) -> str:
        return self._draft

    def attached(self) -> Sequence[AttachedFile]:
        return ()

    def put_draft(self, text: str) -> None:
        """Let the next line begin with this, where it can be edited."""
        editing = self.session.state.editing
        if self._reader.interactive or not editing:  # a script's own next line is the new version
            self._draft = text
        if editing:
            self.say(_("The next message takes the place of your last one."))

    def quit(self) -> None:
        self._leaving = True

    async def show(self, view: View, argument: str = "") -> None:
        lists: dict[View, Callable[[], None]] = {
            "help": self._show_help,
            "keys": self._show_keys,
            "conversations": self._show_conversations,
            "settings": self._show_settings,
            "trash": self._show_trash,
            "presets": self._show_presets,
            "themes": self._show_themes,
            "queue": self._show_queue,
            "search": lambda: self._show_hits(argument),
            "tune": self._show_tuning,
        }
        if view == "models":
            await self._show_models()
        elif view == "documents":
            await self._show_documents()
        elif view == "compare":
            await self._show_comparison()
        else:
            lists[view]()

    def _show_help(self) -> None:
        for command in COMMANDS:
            self.say(f"{command.usage}: {_(command.help)}")
        self.say(_('A text of several lines stands between """ and """.'))

    def _show_conversations(self) -> None:
        summaries = self.session.library.list()[:LISTED]
        if not summaries:
            self.say(_("There are no conversations yet."))
            return
        self._list(map(_described, summaries))
        self._number([summary.path for summary in summaries])

    def _list(self, rows: Iterable[str]) -> None:
        for number, row in enumerate(rows, 1):
            self.say(f"{number}. {row}")

    def _number(self, listed: Sequence[Path]) -> None:
        self.session.numbered = listed
        self.say(_("/load and a number opens one."))

    def _show_settings(self) -> None:
        for setting in SCHEMA:
            value = self._settings[setting.key]
            shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            self.say(f"{setting.key} = {setting.shown(shown)}  ({_(setting.help)})")
        self.say(_("/set NAME VALUE changes one."))

    def _show_hits(self, query: str) -> None:
        if not query:
            raise UserError(_("Which words? For example: /search model"))
        listed: list[Path] = []
        for hit in self.session.library.search(query, limit=LISTED):
            if hit.summary.path not in listed:
                listed.append(hit.summary.path)
                self.say(f"{len(listed)}. {_described(hit.summary)}")
            self.say(f"- {one_line(hit.line)}")
        if listed:
            self._number(listed)
        else:
            self.say(_("Nothing found."))

    def _show_trash(self) -> None:
        trashed = self.session.library.trashed()
        self._list(map(_described, trashed[:LISTED]))
        self.say(_("/trash and a number brings one back.") if trashed else _("The trash is empty."))

    def _show_presets(self) -> None:
        settings = self._settings
        for name, values in settings.presets.items():
            written = ", ".join(
                f"{BY_KEY[key].name} {value}" for key, value in values.items() if value is not None
            )
            in_use = f" ({_('in use')})" if name == settings.preset else ""
            self.say(f"{tell(settings.preset_title(name))}{in_use}: {written}")
        self.say(_("/preset NAME uses one."))

    def _show_themes(self) -> None:
        for name, title in themes.titles().items():
            in_use = f" ({_('in use')})" if name == self._settings["ui.theme"] else ""
            self.say(f"{name}{in_use}: {_(title)}")
        self.say(_("/theme NAME uses one, in the full screen."))

    def _show_keys(self) -> None:
        self.say(keys.markdown_table(self._settings.keys), markdown=True)
        text = _(
            "They are for the full screen. A line such as {example} under [keys] in {path} binds others."
        )
        self.say(text.format(path=self._settings.path, example='"chat.stop" = "escape,ctrl+g"'))

    async def _show_models(self) -> None:
        jobs = self.session.models
        jobs.refresh()
        while jobs.asking:
            await self.session.poll()
            await asyncio.sleep(POLL_SECONDS)
        if jobs.models is None:
            raise UserError(jobs.message[0])
        for line in model_lines(jobs.models):
            self.say(line)
        self.say(_("/model NAME loads one."))

    async def _show_documents(self) -> None:
        found = await asyncio.to_thread(listed)
        for line in collection_lines(found, self.session.context.collection(self.session.conversation)):
            self.say(line)
        self.say(_("/docs add FOLDER makes a collection, /docs use NAME answers from one."))

    async def _show_comparison(self) -> None:
        """Write both answers one below the other, when they are complete."""
        comparison = self.session.comparison
        assert comparison is not None
        while not comparison.ended:
            await self.session.poll()
            await asyncio.sleep(POLL_SECONDS)
        for side in comparison.sides:
            self.say(f"{self.session.adapted if side.adapters else _('without')}:")
            self.say(side.problem or side.text)

    def _show_tuning(self) -> None:
        tuning = self.session.tuning
        for choice in tuning.choices:
            value = tuning[choice.name]
            shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            self.say(f"{choice.name} = {shown}  ({_(choice.help)})")
        if (record := tuning.record) is not None:
            for name, figure in record.figures():
                self.say(f"{tell(name)} {figure}")
        self.say(_("/tune NAME VALUE changes one, /tune start begins."))

    def _show_queue(self) -> None:
        self._list(
            f"{_('on hold') if item.on_hold else _('next')}: {one_line(item.text)}"
            for item in self.session.queued
        )


def _described(summary: Summary) -> str:
    title = one_line(summary.title) or summary.name
    return f"{title} ({summary.updated:%Y-%m-%d %H:%M})"
