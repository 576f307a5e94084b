"""The last line of defence: an error that nobody foresaw is told, and the app goes on.

Textual ends the app with a traceback that shows the values of variables: what was said in a conversation. The
loop of the widget in which it happened ends too, and an error while something is drawn comes again with every
drawing.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from rich.segment import Segment
from textual.app import App
from textual.box_model import BoxModel
from textual.geometry import Region, Size
from textual.message import Message
from textual.message_pump import MessagePump
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import WorkerFailed

from glmtui.tui.textual_patches import textual_is


class GuardedApp(App[None]):
    """An app that outlives what goes wrong in handlers, timers, workers, actions, layout and drawing."""

    def fault(self, error: BaseException) -> str:
        """Tell of `error`, unless that was done before; return what is said of it."""
        raise NotImplementedError

    def _handle_exception(self, error: Exception) -> None:
        self.fault(error.error if isinstance(error, WorkerFailed) else error)


def install() -> None:
    """Let the loops of all widgets, and their layout, outlive an error."""
    if not textual_is((8, 2)) or MessagePump._dispatch_message.__module__ == __name__:
        return
    dispatch, measure = MessagePump._dispatch_message, Widget._get_box_model

    async def _dispatch_message(self: MessagePump, message: Message) -> None:
        try:
            await dispatch(self, message)
        except Exception as error:  # noqa: BLE001 (that is what it is for)
            self.app._handle_exception(error)

    def _get_box_model(self: Widget, container: Size, *arguments: Any, **options: Any) -> BoxModel:
        """As high as the line that is drawn in its place, if it cannot be measured."""
        try:
            return measure(self, container, *arguments, **options)
        except Exception as error:  # noqa: BLE001 (as above)
            self.app._handle_exception(error)
            return BoxModel(Fraction(container.width), Fraction(1), self.styles.margin)

    MessagePump._dispatch_message = _dispatch_message  # type: ignore[method-assign]
    Widget._get_box_model = _get_box_model  # type: ignore[method-assign]


def told(widget: Widget, error: Exception) -> str:
    """Tell of an error in `widget`; return what to show in the place of what it would have shown."""
    app = widget.app
    if not isinstance(app, GuardedApp):
        raise error
    app._handle_exception(error)
    return app.fault(error)


def draw(widget: Widget, region: Region) -> list[Strip]:
    """Return the lines of a part of `widget`; where it cannot be drawn, the first one says so."""
    try:
        return widget.render_lines(region)
    except Exception as error:  # noqa: BLE001 (as above)
        line = Strip([Segment(told(widget, error))]).crop_extend(region.x, region.right, None)
        blank = Strip.blank(region.width)
        return [blank if row else line for row in region.line_range]
