"""The line mode: the app's conversations and commands, one line after the other."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from glmtui import i18n, paths
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.i18n import _, ngettext, tell
from glmtui.plain.driver import Driver
from glmtui.plain.printer import Paint, wants_color
from glmtui.plain.reader import Reader, read_message
from glmtui.plain.views import LineView
from glmtui.session import keys, themes
from glmtui.session.controller import ChatController
from glmtui.session.model_link import ModelLink
from glmtui.session.options import AppOptions
from glmtui.session.slash import registry as commands
from glmtui.session.ui import apply_options, load_model, make_worker, write_new_file
from glmtui.session.workspace import Desk
from glmtui.settings.settings import BY_KEY, SCHEMA, Settings, named
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    from glmtui.chat.library import Summary
    from glmtui.session.model_link import WorkerLike

INTERRUPTED = 130
LISTED = 20
"""Conversations that are listed at once."""


class LineMode:
    """Reads a line, does what it says, writes what came of it. It is the commands' `Front`.

    Args:
        options: what the command line said.
        settings: read already.
        reader: where lines come from.
        output: takes answers and what commands say.
        errors: takes notices and progress.
        make_worker: makes what runs the model.
    """

    def __init__(
        self,
        options: AppOptions,
        settings: Settings,
        reader: Reader,
        output: TextIO,
        errors: TextIO,
        make_worker: Callable[[], WorkerLike] = make_worker,
    ) -> None:
        self.options = options
        self.settings = settings
        apply_options(settings, options)
        i18n.use(str(settings["ui.language"]))
        self.library = Library()
        self.draft = ""
        paint, paint_errors = (
            Paint(wants_color(options.color, bool(settings["ui.plain_color"]), stream))
            for stream in (output, errors)
        )
        self.view = LineView(output, errors, self._restore, paint, paint_errors)
        self.controller = ChatController(ModelLink(make_worker), self.library, settings, self.view)
        self.view.watch(self.controller)
        self.desk: Desk = Desk(self)
        self._reader = reader
        self._driver = Driver(self.controller)
        self._listed: list[Path] = []
        """The conversations whose numbers were shown last."""
        self._leaving = False

    def run(self) -> int:
        """Go on until the person leaves; return the exit code.

        A script (lines that nobody types) that met an error ends with 1.
        """
        self._reader.prepare(self.desk.prompts.entries(), self._offers)
        try:
            self._driver.run(self._begin())
            while not self._leaving:
                self._turn()
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            self.desk.leave()
            self._driver.close()
        return 1 if self.view.failed and not self._reader.interactive else 0

    async def _begin(self) -> None:
        for problem in self.settings.problems:
            self.view.notice(tell(problem), "warning")
        if self.options.conversation is not None:
            await self.desk.open_first()
            self.opened(None)
        else:
            self.draft = self.desk.drafts.get("")
        load_model(self)
        if self._reader.interactive:
            self.say(_("/help lists the commands, Ctrl+C stops an answer, Ctrl+D quits."))

    def _turn(self) -> None:
        """Read one line or block and do what it says."""
        typed = self._reader.interactive
        try:
            prompt = self.view.paint.heading(_("You"), "person")
            line = read_message(self._reader, prompt, self.draft if typed else "")
        except EOFError:
            self._leaving = True
            if typed:
                self.say("")
            return
        except KeyboardInterrupt:
            line = ""
            self.say("\n" + _("Ctrl+D quits."))
        if typed:
            self.draft = ""
        if line.strip():
            self._driver.run(self._guarded(self._take(line)))
            self.desk.keep_waiting()

    async def _take(self, text: str) -> None:
        self.desk.keep_draft()  # it is no longer one; sending may give the conversation its file
        self.desk.prompts.add(text)
        self._reader.remember(text)
        line = commands.parse(text)
        if line is None:
            await self.controller.submit(commands.message(text))
        elif line.command is None:
            raise UserError(commands.unknown(line.name))
        elif line.command.needs_argument and not line.argument:
            raise UserError(f"{line.command.usage}: {_(line.command.help)}")
        else:
            await line.command.handler(self, line.argument)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except UserError as error:
            self.view.notice(tell(error), "error")

    def _restore(self, text: str) -> None:
        self.draft = text

    def _offers(self, before: str) -> Sequence[str]:
        return [text for text, _description, _label in commands.offers(self, before)]

    # --- what the commands need (`Front`) ---

    @property
    def full_screen(self) -> None:
        """There is none."""
        return

    def say(self, text: str, *, warning: bool = False) -> None:
        """Write a line."""
        if warning:
            self.view.notice(text, "warning")
        else:
            self.view.say(text)

    def say_markdown(self, text: str) -> None:
        """Write Markdown as lines."""
        self.view.say_markdown(text)

    async def ask(self, title: str, value: str = "") -> str | None:
        """Ask for a line."""
        try:
            return self._reader.read(f"{title}: ", value)
        except (EOFError, KeyboardInterrupt):
            return None

    def shown_key(self, key_id: str) -> str:
        """There are no keys but those of writing."""
        return ""

    def copy(self, text: str) -> None:
        """Copy by the platform's tool: a terminal is not steered from here."""
        from glmtui.session import clipboard

        if not clipboard.copy_with_tool(text):
            raise UserError(_("There is no clipboard here. /export writes a file."))
        self.say(_("Copied"))

    async def write_file(self, path: Path, text: str) -> None:
        """Write a file that is not there yet."""
        await write_new_file(path, text)
        self.say(_("Written to {path}").format(path=path))

    async def change_setting(self, key: str, value: object) -> None:
        """Save a setting and do what follows from it."""
        self.settings.set(key, value)
        self._follow(key)

    async def type_setting(self, key: str, text: str) -> None:
        """Change a setting to what a person typed."""
        if text.strip().lower() == "default":
            self.settings.reset(named(key).key)
            self._follow(key)
        else:
            await self.change_setting(named(key).key, named(key).parse(text))

    def _follow(self, key: str) -> None:
        if key.startswith("model."):
            load_model(self)
        elif key == "ui.language":
            i18n.use(str(self.settings["ui.language"]))

    def settings_changed(self) -> None:
        """They are written when they are asked for."""

    def show_help(self, first: Literal["keys", "commands"]) -> None:
        """Write all commands."""
        for command in commands.COMMANDS:
            self.say(f"{command.usage}: {_(command.help)}")
        self.say(_('A text of several lines stands between """ and """.'))

    async def show_conversations(self) -> None:
        """Write the conversations that were used last."""
        summaries = self.library.list()[:LISTED]
        if not summaries:
            self.say(_("There are no conversations yet."))
            return
        self._listed = [summary.path for summary in summaries]
        for number, summary in enumerate(summaries, 1):
            self.say(f"{number}. {_described(summary)}")
        self.say(_("/load and a number opens one."))

    async def show_settings(self) -> None:
        """Write all settings with their values."""
        for setting in SCHEMA:
            value = self.settings[setting.key]
            shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            self.say(f"{setting.key} = {shown}  ({_(setting.help)})")
        self.say(_("/set NAME VALUE changes one."))

    async def search(self, text: str = "") -> None:
        """Write the lines in which the words occur."""
        if not text:
            raise UserError(_("Which words? For example: /search model"))
        self._listed = []
        for hit in self.library.search(text, limit=LISTED):
            if hit.summary.path not in self._listed:
                self._listed.append(hit.summary.path)
                self.say(f"{len(self._listed)}. {_described(hit.summary)}")
            self.say(f"- {one_line(hit.line)}")
        self.say(_("/load and a number opens one.") if self._listed else _("Nothing found."))

    async def show_trash(self) -> None:
        """Write the deleted conversations."""
        trashed = self.library.trashed()
        for number, summary in enumerate(trashed[:LISTED], 1):
            self.say(f"{number}. {_described(summary)}")
        self.say(_("/trash and a number brings one back.") if trashed else _("The trash is empty."))

    async def show_presets(self) -> None:
        """Write the presets with their values."""
        for name, held in self.settings.presets.items():
            values = ", ".join(
                f"{BY_KEY[key].name} {value}" for key, value in held.items() if value is not None
            )
            in_use = f" ({_('in use')})" if name == self.settings.preset else ""
            self.say(f"{tell(self.settings.preset_title(name))}{in_use}: {values}")
        self.say(_("/preset NAME uses one."))

    @property
    def theme_titles(self) -> Mapping[str, str]:
        """The themes of the full screen."""
        return themes.titles()

    async def show_themes(self) -> None:
        """Write the themes of the full screen."""
        for name, title in self.theme_titles.items():
            in_use = f" ({_('in use')})" if name == self.settings["ui.theme"] else ""
            self.say(f"{name}{in_use}: {_(title)}")
        self.say(_("/theme NAME uses one, in the full screen."))

    async def show_keys(self) -> None:
        """Write the keys of the full screen."""
        self.say_markdown(keys.markdown_table(self.settings.keys))
        text = _(
            "They are for the full screen. A line such as {example} under [keys] in {path} binds others."
        )
        self.say(text.format(path=self.settings.path, example='"chat.stop" = "escape,ctrl+g"'))

    def show_models(self) -> None:
        """Write the models there are."""
        from glmtui.cli.models import lines
        from glmtui.engine import model_jobs as beside

        for line in lines(beside.list_models(str(self.settings["model.device"]))):
            self.say(line)
        self.say(_("/model NAME loads one."))

    def show_queue(self) -> None:
        """Write what waits."""
        for number, item in enumerate(self.controller.waiting, 1):
            self.say(f"{number}. {_('held') if item.held else _('next')}: {one_line(item.text)}")

    def locate(self, text: str) -> Path:
        """Return the file that is meant: a path, or a number of the list that was written last."""
        if text.isdigit() and not os.path.exists(text):
            if not 0 < int(text) <= len(self._listed):
                raise UserError(_("There is no number {number} in the list.").format(number=text))
            return self._listed[int(text) - 1]
        return paths.typed(text)

    def edit(self, message_id: str) -> None:
        """The next line is the new version; it begins with the old one where it can be edited."""
        self.controller.edit(message_id)
        if self._reader.interactive:
            self.draft = self.controller.conversation.messages[message_id].text
        self.say(_("The next message takes the place of your last one."))

    def opened(self, message_id: str | None) -> None:
        """Write what was said last."""
        branch = self.controller.conversation.branch()
        if not branch:
            self.say(_("A new conversation begins."))
            return
        count = ngettext("{title} ({n} message)", "{title} ({n} messages)", len(branch))
        self.say(count.format(title=self.controller.conversation.title, n=len(branch)))
        for message in branch[-2:]:
            self.view.tell(message)
        if held := len(self.controller.waiting):
            waits = ngettext(
                "{n} message waits to be sent: /queue", "{n} messages wait to be sent: /queue", held
            )
            self.say(waits.format(n=held))

    async def action_quit(self) -> None:
        """Leave when this is done."""
        self._leaving = True


def _described(summary: Summary) -> str:
    title = one_line(summary.title) or summary.name
    return f"{title} ({summary.updated:%Y-%m-%d %H:%M})"
