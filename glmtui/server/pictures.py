"""The pictures of requests: their bytes come with them, nothing is fetched for a client."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from glmtui import images
from glmtui.errors import UserError
from glmtui.protocol.messages import Image
from glmtui.server.errors import bad_request

UNSUPPORTED = "unsupported_content"
_DATA = re.compile(r"data:[^,;]*(?:;[^,;]*)*;base64,", re.IGNORECASE)


class Pictures:
    """Takes in the pictures of one request.

    Args:
        seen: whether the model that is loaded looks at pictures.
    """

    def __init__(self, *, seen: bool) -> None:
        self.seen = seen
        self.files: dict[str, bytes] = {}
        """By their SHA-256."""

    def add(self, address: object, name: str) -> Image:
        """Take a picture by its data URI; `name` is the field it came in.

        Raises:
            ApiError: no model looks at it, it lies elsewhere, or it is none that can be used.
        """
        self.check_seen(name)
        if not isinstance(address, str):
            raise bad_request(f"{name} must be a string.", name)
        if not (head := _DATA.match(address)):
            raise bad_request(
                f"{name} must be a data URI (data:image/png;base64,…): this server fetches no pictures.",
                name,
                UNSUPPORTED,
            )
        return self.decoded(address[head.end() :], name)

    def decoded(self, text: str, name: str) -> Image:
        """Take a picture by its file in base64. Raises as `add`."""
        self.check_seen(name)
        try:
            data = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise bad_request(f"{name} is not base64.", name, "invalid_image") from None
        try:
            kind = images.check(data)
        except UserError as error:
            raise bad_request(f"{name}: {error}", name, "invalid_image") from None
        sha256 = hashlib.sha256(data).hexdigest()
        self.files[sha256] = data
        return Image(sha256, kind)

    def check_seen(self, name: str) -> None:
        """Raise `ApiError` where the model does not look at pictures."""
        if not self.seen:
            raise bad_request(
                f"The model that is loaded takes text alone: {name} is a picture.", name, UNSUPPORTED
            )
