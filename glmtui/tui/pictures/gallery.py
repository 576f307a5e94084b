"""The pictures of a conversation, decoded in the background and kept small while they are seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        self._waiting: dict[object, list[Callable[[], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self, image: Image, ready: Callable[[], None]) -> Small | Phrase | None:
        """Return a picture, or why there is none; None while it is decoded: `ready` is called then."""
        known = self._known.pop(image.sha256, None)
        if known is not None:
            self._known[image.sha256] = known  # the one seen last stands last
        else:
            self._begin(image.sha256, lambda: self._decode(image), ready)
        return known

    def forget_failures(self) -> None:
        """Look again for what could not be read: it may be there for another conversation."""
        self._known = {sha256: known for sha256, known in self._known.items() if isinstance(known, Small)}

    def thumbnail(
        self, image: Image, small: Small, width: int, ready: Callable[[], None]
    ) -> Sequence[Content]:
        """Return the lines of a thumbnail for `width` cells; none where pictures are not drawn.

        None, too, while it is being drawn: `ready` is called then.
        """
        wanted = image.sha256, small.picture, min(COLUMNS, width), ROWS
        drawn = self._painter.known(*wanted)
        if drawn is None:
            self._begin((image.sha256, width), lambda: asyncio.to_thread(self._painter.lines, *wanted), ready)
        return drawn or ()

    def _begin(
        self, key: object, work: Callable[[], Coroutine[Any, Any, object]], ready: Callable[[], None]
    ) -> None:
        """Do something in the background, once for all who wait for it."""
        if key in self._waiting:
            self._waiting[key].append(ready)
            return
        self._waiting[key] = [ready]
        task = asyncio.ensure_future(self._finish(key, work()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, key: object, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        finally:
            waiting = self._waiting.pop(key)
        for ready in waiting:
            ready()

    async def _decode(self, image: Image) -> None:
        try:
            self._known[image.sha256] = await asyncio.to_thread(self._small, image)
        except UserError as error:
            self._known[image.sha256] = error.phrase
        for sha256 in list(self._known)[:-KEPT]:
            del self._known[sha256]

    def _small(self, image: Image) -> Small:
        from glmtui import images

        data = self._read(image)
        return Small(images.thumbnail(data, PIXELS, PIXELS, image.name), images.size_of(data))
