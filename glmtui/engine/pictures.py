"""The pictures of prompts: looked at once each, as that takes seconds; what the model makes of them is kept.

It goes by the digest of the picture's file, so that it serves every conversation.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from glmtui import images, paths
from glmtui.errors import BadValueError, NotFoundError, UnavailableError
from glmtui.models.base import ImageRows, LanguageModel
from glmtui.protocol.messages import ChatMessage, Image
from glmtui.protocol.phrases import _

Step = Callable[[], None]
"""Called between pieces of work; raises to cancel."""
Content = str | Path | bytes
"""A picture: where its file lies, or what is in it."""
KEPT_BYTES = 64 << 20
"""Bytes of rows that are kept: 128 pictures of VisualGLM-6B's."""


@dataclass(frozen=True, slots=True)
class PromptImage:
    """A picture in a prompt."""

    at: int
    """Index of its first token."""
    digest: str
    """SHA-256 of its file."""
    look: Callable[[Step | None], ImageRows]
    """Returns its rows, and computes them where they are not kept."""


class Pictures:
    """What `network` makes of pictures.

    Args:
        limit: bytes of rows that are kept; those used longest ago go first, the newest always stays.
    """

    def __init__(self, network: LanguageModel, limit: int = KEPT_BYTES) -> None:
        self._network = network
        self._limit = limit
        self._kept: OrderedDict[str, ImageRows] = OrderedDict()
        self._sizes: dict[str, tuple[int, int]] = {}

    def look(self, sha256: str, data: bytes, name: str = "", step: Step | None = None) -> ImageRows:
        """Return the rows of the picture in `data`.

        Raises:
            UserError: it is no picture; see `glmtui.images.decode`.
        """
        if sha256 not in self._kept:
            self._check_sees()
            picture = images.decode(data, name)
            with torch.inference_mode(), _stepping(self._network.image_blocks, step):
                self._kept[sha256] = self._network.encode_image(picture)
        self._kept.move_to_end(sha256)
        while len(self._kept) > 1 and sum(each.rows.nbytes for each in self._kept.values()) > self._limit:
            self._kept.popitem(last=False)
        return self._kept[sha256]

    def row_counts(self, messages: Iterable[ChatMessage], files: Mapping[str, bytes]) -> dict[str, int]:
        """Return how many tokens each picture in `messages` takes, by its SHA-256.

        Args:
            files: the pictures' files by the same.

        Raises:
            UserError: one is missing or no picture, or the model sees none.
        """
        counts: dict[str, int] = {}
        for message in messages:
            for part in message.parts:
                if isinstance(part, Image) and part.sha256 not in counts:
                    self._check_sees()
                    if part.sha256 not in self._sizes:
                        self._sizes[part.sha256] = images.size_of(file_of(part, files), part.name)
                    counts[part.sha256] = self._network.image_rows(*self._sizes[part.sha256])
        return counts

    def in_prompt(
        self, placed: Sequence[tuple[int, Image]], files: Mapping[str, bytes]
    ) -> tuple[PromptImage, ...]:
        """Return the pictures of a prompt, none of which is looked at yet."""

        def of(at: int, image: Image) -> PromptImage:
            data = file_of(image, files)
            return PromptImage(at, image.sha256, lambda step: self.look(image.sha256, data, image.name, step))

        return tuple(of(at, image) for at, image in placed)

    def _check_sees(self) -> None:
        if not self._network.sees_images:
            message = _("This model does not see pictures. VisualGLM-6B and GLM-4.1V do.")
            raise UnavailableError(message)


@contextmanager
def _stepping(blocks: Iterable[nn.Module], step: Step | None) -> Iterator[None]:
    """Call `step` before each of `blocks` computes."""
    called = step or (lambda: None)
    hooks = [block.register_forward_pre_hook(lambda *_given: called()) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def file_of(image: Image, files: Mapping[str, bytes]) -> bytes:
    """Return the file of `image`. Raises NotFoundError where it is not among `files`."""
    if image.sha256 not in files:
        name = image.name or image.sha256
        raise NotFoundError(_("The picture {name} is missing.").format(name=name))
    return files[image.sha256]


def given(content: Content) -> tuple[Image, bytes]:
    """Return a picture that a program gave, and what is in its file.

    Raises:
        UserError: it is neither a path nor bytes, or cannot be read.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        name, data = "", bytes(content)
    elif isinstance(content, str | Path):
        path = paths.typed(content)
        name, data = path.name, images.read_picture(path)
    else:
        raise BadValueError(_("A picture is the path of its file, or the bytes in it."))
    return Image(hashlib.sha256(data).hexdigest(), "", name), data
