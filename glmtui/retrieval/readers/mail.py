"""Letters as mail programs save them (RFC 5322)."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

from glmtui.protocol.phrases import _
from glmtui.retrieval.documents import MOST_TEXT, Block, Reading
from glmtui.retrieval.readers import html, text
from glmtui.text.clean import one_line

MOST_NAMED = 10
"""Attachments that a note names."""
LONGEST_HEADER = 10_000
"""Characters of a header that is taken apart."""
_HEADERS = ("Subject", "From", "To", "Cc", "Date")


def read_mail(reading: Reading) -> Iterator[Block]:
    """Read who wrote what to whom; what is attached is named only."""
    start = reading.file.read(MOST_TEXT)
    if reading.file.read(1):  # what is cut off is an attachment as a rule
        reading.notes.append(_("It was read up to {most} MB.").format(most=MOST_TEXT >> 20))
    message = message_from_bytes(start, policy=policy.default)
    del start
    assert isinstance(message, EmailMessage)
    reading.title = _header(message, "Subject")
    if said := [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]:
        yield Block("text", "\n".join(said))
    body = message.get_body(("plain", "html"))
    if body is not None:
        data = body.get_payload(decode=True)
        data = data if isinstance(data, bytes) else b""
        written = html.decode_page(data, body.get_content_charset() or "")
        if body.get_content_subtype() == "html":
            yield from html.parse(written).blocks
        else:
            yield from text.plain((0, line) for _number, line in text.lines_of(written))
    names = [one_line(part.get_filename() or part.get_content_type()) for part in message.iter_attachments()]
    if names:
        yield Block("text", "Attachments: " + ", ".join(names))
        different = list(dict.fromkeys(names))
        more = ["…"] if len(different) > MOST_NAMED else []
        shown = ", ".join([*different[:MOST_NAMED], *more])
        reading.notes.append(_("What is attached is not read: {names}").format(names=shown))


def _header(message: EmailMessage, name: str) -> str:
    raw = next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")
    if len(raw) > LONGEST_HEADER:  # the parser takes a time that grows with the square of the length
        return one_line(raw[:LONGEST_HEADER])
    try:
        return one_line(str(message.get(name) or ""))
    except (ValueError, IndexError, AttributeError, TypeError):  # one that the parser itself cannot read
        return ""
