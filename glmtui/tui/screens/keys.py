"""All keys, to bind them elsewhere: choose an action, press the key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.session import keys
from glmtui.session.keys import BY_ID, KEYS, SCOPES, Key
from glmtui.tui.screens.dialog import ListDialog

if TYPE_CHECKING:
    from glmtui.tui.session_app import SessionApp


class KeysScreen(ListDialog[None]):
    """Every action with its keys by where it works. Enter asks for the new key; clashes are named."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("f1", "dismiss", ""), ("plus", "add", ""), ("delete,d", "reset", ""),
        ("j", "move('down')", ""), ("k", "move('up')", ""),
    ]  # fmt: skip
    app: SessionApp
    start = 1  # below the first heading

    def __init__(self) -> None:
        super().__init__(_("Keys"), tall=True)
        self._pressing: Key | None = None
        """The action whose new key is to be pressed."""
        self._adding = False

    def body(self) -> Iterable[Widget]:
        yield from super().body()
        yield Static(id="keys-said", markup=False)

    def rows(self) -> Iterable[Option]:
        above = ""
        for scope, name in SCOPES.items():
            yield Option(Content.styled(f"{above}{_(name)}", "$text-secondary"), disabled=True)
            yield from (Option("", id=key.id) for key in KEYS if key.scope == scope)  # `_lay_out` fills them
            above = "\n"

    def on_mount(self) -> None:
        self._say()

    def on_resize(self) -> None:
        """Lay out the rows again, once the list has its new width."""
        self.call_after_refresh(self._lay_out)

    # --- choosing and pressing ---

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._wait(adding=False)

    def action_add(self) -> None:
        self._wait(adding=True)

    def action_reset(self) -> None:
        if key := self._chosen():
            self._bind(key, None)

    def action_move(self, direction: str) -> None:
        self.options.action_cursor_down() if direction == "down" else self.options.action_cursor_up()

    async def on_event(self, event: events.Event) -> None:
        """While a key is waited for, take it whatever it is bound to."""
        if isinstance(event, events.Key) and self._pressing:
            event.stop()
            event.prevent_default()
            self._take(event.key)
        else:
            await super().on_event(event)

    def _wait(self, *, adding: bool) -> None:
        self._pressing, self._adding = self._chosen(), adding
        self._say()

    def _take(self, pressed: str) -> None:
        key, self._pressing = self._pressing, None
        assert key is not None
        if pressed == "escape":
            self._say()
            return
        before = keys.keys_of(key, self.app.settings.keys) if self._adding else []
        self._bind(key, ",".join(dict.fromkeys([*before, pressed])))

    def _bind(self, key: Key, bound: str | None) -> None:
        wrong = ""
        try:
            self.app.session.preferences.bind(key.id, None if bound == key.keys else bound)
        except UserError as error:
            wrong = tell(error)
        self.options.replace_option_prompt(key.id, self._row(key))
        own = self.app.settings.keys
        clashes = [problem for problem in keys.problems(own) if key.id in problem]
        self._say(wrong or "\n".join(clashes))

    # --- what is shown ---

    def _chosen(self) -> Key | None:
        found = self.options.highlighted_option
        return BY_ID.get(found.id) if found and found.id else None

    def _row(self, key: Key) -> Content:
        own = self.app.settings.keys
        bound = " / ".join(keys.display(name) for name in keys.keys_of(key, own)) or _("none")
        changed = key.id in own
        right = Content.styled(bound, "bold $text-primary" if changed else "$text-secondary")
        left = Content.assemble(("•" if changed else " ", "$text-accent"), " ", _(key.help))
        width = self.options.scrollable_content_region.width
        left = left.truncate(max(width - right.cell_length - 2, 0), ellipsis=True)
        return Content.assemble(left, " " * (width - left.cell_length - right.cell_length), right)

    def _lay_out(self) -> None:
        for key in KEYS:
            self.options.replace_option_prompt(key.id, self._row(key))

    def _say(self, wrong: str = "") -> None:
        said = self.query_one("#keys-said", Static)
        said.update(wrong)
        said.display = bool(wrong)
        if key := self._pressing:
            text = _("Press the key for “{action}” · Esc cancels").format(action=_(key.help))
        else:
            text = _("Enter: press a new key · + one more · Del default · Esc closes")
        foot = self.query_one(".dialog-keys", Static)
        foot.set_class(self._pressing is not None, "-pressing")
        foot.update(text)
