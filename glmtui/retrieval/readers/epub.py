"""Electronic books: the pages of a package in the order they are read."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _
from glmtui.retrieval.documents import Block, Reading
from glmtui.retrieval.readers import html
from glmtui.retrieval.readers.packages import opened, resolve
from glmtui.text.clean import one_line


def read_epub(reading: Reading) -> Iterator[Block]:
    """Read the book's spine."""
    with opened(reading.file) as package:
        if "META-INF/encryption.xml" in package and b"http://www.idpf.org/2008/embedding" not in package.read(
            "META-INF/encryption.xml"
        ):
            raise BadFileError(_("It is encrypted."))
        roots = [
            event.attributes.get("full-path", "")
            for event in package.xml("META-INF/container.xml")
            if event.kind == "start" and event.name == "rootfile"
        ]
        root = roots[0] if roots else ""
        folder = root.rpartition("/")[0]
        pages: dict[str, str] = {}
        spine: list[str] = []
        in_title = False
        for event in package.xml(root):
            if event.kind == "text":
                reading.title += event.name if in_title else ""
            elif event.name == "title":
                in_title = event.kind == "start" and not reading.title
            elif event.kind == "start" and event.name == "item":
                href = unquote(event.attributes.get("href", ""))
                pages[event.attributes.get("id", "")] = resolve(folder, href)
            elif event.kind == "start" and event.name == "itemref":
                spine.append(event.attributes.get("idref", ""))
        reading.title = one_line(reading.title)[:300]
        if not spine:
            raise BadFileError(_("It is no book: nothing says in which order its pages are read."))
        for page in dict.fromkeys(pages.get(item, "") for item in spine):  # each once, however often named
            yield from html.parse(html.decode_page(package.read(page))).blocks
