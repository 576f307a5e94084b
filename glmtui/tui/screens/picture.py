"""A picture as large as the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.text.clean import one_line
from glmtui.text.units import size
from glmtui.tui.screens.dialog import Dialog

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from glmtui.protocol.messages import Image
    from glmtui.tui.session_app import SessionApp

PIXELS = 2048
"""Width and height of what is drawn, at the most."""


class PictureView(Widget):
    """Draws a picture in its middle."""

    app: SessionApp
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[str, Picture] | None = None
        self._drawn = Content("…")

    def say(self, text: str) -> None:
        """Show a text in place of a picture."""
        self._shown, self._drawn = None, Content(text)
        self.refresh()

    def show(self, name: str, picture: Picture) -> None:
        """Show a picture, whose `name` no other has."""
        self._shown = name, picture
        self.run_worker(self._draw(), exclusive=True)

    def on_resize(self) -> None:
        if self._shown is not None:
            self.run_worker(self._draw(), exclusive=True)

    async def _draw(self) -> None:
        if self._shown is not None and all(self.content_size):
            lines = await asyncio.to_thread(self.app.painter.lines, *self._shown, *self.content_size)
            self._drawn = Content("\n").join(lines)
            self.refresh()

    def render(self) -> Content:
        return self._drawn


class PictureScreen(Dialog[None]):
    """Shows the pictures of a message, one at a time.

    Args:
        images: of one message.
        first: which of them is shown first.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,enter,i", "dismiss", ""),
        ("left,h,k,up,pageup", "go(-1)", ""),
        ("right,l,j,down,pagedown,space", "go(1)", ""),
    ]
    app: SessionApp

    def __init__(self, images: Sequence[Image], first: int = 0) -> None:
        several = _("← → the others · Esc closes") if len(images) > 1 else _("Esc closes")
        super().__init__(" ", several, tall=True)
        self._images = images
        self._at = first

    def body(self) -> Iterable[Widget]:
        yield PictureView()

    def on_mount(self) -> None:
        self._show()

    def action_go(self, by: int) -> None:
        if 0 <= self._at + by < len(self._images):
            self._at += by
            self._show()

    def _show(self) -> None:
        self.run_worker(self._load(self._images[self._at]), exclusive=True)

    async def _load(self, image: Image) -> None:
        view, title = self.query_one(PictureView), self.query_one(".dialog-title", Static)
        name = one_line(image.name) or image.media_type
        view.say("…")
        about = [name]
        if len(self._images) > 1:
            about.append(f"{self._at + 1} / {len(self._images)}")
        try:
            picture, pixels, length = await asyncio.to_thread(self._decoded, image)
            about += ["{} × {}".format(*pixels), size(length)]
            if self.app.painter.way() == "text":
                view.say(_("This terminal, or the setting ui.pictures, shows no pictures."))
            else:
                view.show(image.sha256, picture)
        except UserError as error:
            view.say(tell(error))
        title.update(" · ".join(about))

    def _decoded(self, image: Image) -> tuple[Picture, tuple[int, int], int]:
        from glmtui import images

        data = self.app.session.picture(image)
        picture = images.thumbnail(data, PIXELS, PIXELS, image.name)
        return picture, images.size_of(data), len(data)
