"""The pictures of a conversation, decoded in the background and kept small while they are seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from glmtui.errors import UserError
from glmtui.protocol.phrases import Phrase
from glmtui.tui.pictures.painter import Painter

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from glmtui.protocol.messages import Image

KEPT = 48
"""Pictures that are kept in memory."""
PIXELS = 512
"""Their width and height at the most: enough for a thumbnail in any terminal."""
COLUMNS, ROWS = 40, 10
"""The largest thumbnail."""


@dataclass(frozen=True)
class Small:
    """A picture made small."""

    picture: Picture
    size: tuple[int, int]
    """Width and height in its file, in pixels."""


class Gallery:
    """Makes thumbnails.

    Args:
        read: returns the file of a picture; raises `UserError`.
        painter: draws them.
    """

    def __init__(self, read: Callable[[Image], bytes], painter: Painter) -> None:
        self._read = read
        self._painter = painter
        self._known: dict[str, Small | Phrase] = {}
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self, image: Image, ready: Callable[[], None]) -> Small | Phrase | None:
        """Return a picture, or why there is none; None while it is decoded: `ready` is called then."""
        known = self._known.pop(image.sha256, None)
        if known is not None:
            self._known[image.sha256] = known  # the one seen last stands last
        elif image.sha256 in self._waiting:
            self._waiting[image.sha256].append(ready)
        else:
            self._waiting[image.sha256] = [ready]
            task = asyncio.ensure_future(self._decode(image))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return known

    def forget_failures(self) -> None:
        """Look again for what could not be read: it may be there for another conversation."""
        self._known = {sha256: known for sha256, known in self._known.items() if isinstance(known, Small)}

    def thumbnail(self, image: Image, small: Small, width: int) -> Sequence[Content]:
        """Return the lines of a thumbnail for `width` cells; none where pictures are not drawn."""
        return self._painter.lines(image.sha256, small.picture, min(COLUMNS, width), ROWS)

    async def _decode(self, image: Image) -> None:
        try:
            self._known[image.sha256] = await asyncio.to_thread(self._small, image)
        except UserError as error:
            self._known[image.sha256] = error.phrase
        for sha256 in list(self._known)[:-KEPT]:
            del self._known[sha256]
        for ready in self._waiting.pop(image.sha256):
            ready()

    def _small(self, image: Image) -> Small:
        from glmtui import images

        data = self._read(image)
        return Small(images.thumbnail(data, PIXELS, PIXELS, image.name), images.size_of(data))
