"""Which reader reads which file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _
from glmtui.retrieval.documents import MOST_CHARACTERS, Block, Reading
from glmtui.retrieval.readers import epub, html, mail, notebook, office, opendocument, pdf, tables, text

Reader = Callable[[Reading], Iterator[Block]]

_MARKDOWN = "md markdown mdx qmd"
_PLAIN = "txt text log rst tex org adoc srt vtt ini toml yaml yml cfg conf xml"
_CODE = (
    "py pyi js mjs jsx ts tsx java kt c h cc cpp cxx hpp cs go rs rb php swift scala lua r jl pl sh bash zsh "
    "fish ps1 bat sql css scss less vue svelte dart ex exs erl hs clj ml f90 m mm proto graphql cmake cu cuh"
)
_FOREIGN = "doc xls ppt rtf wps et dps pages numbers key mobi azw3 djvu caj msg"
PLAIN: dict[str, Reader] = {
    **dict.fromkeys(_MARKDOWN.split(), text.read_markdown),
    **dict.fromkeys(_PLAIN.split(), text.read_plain),
    **dict.fromkeys(_CODE.split(), text.read_code),
    **dict.fromkeys(("csv", "tsv"), tables.read_csv),
    "json": tables.read_json,
    **dict.fromkeys(("jsonl", "ndjson"), tables.read_json_lines),
    "ipynb": notebook.read_notebook,
}
"""By the suffix of a file's name, in lower case: what is text, and read by what takes no harm from it."""


def _read_foreign(reading: Reading) -> Iterator[Block]:
    """Refuse what people take for a document and only its own program reads; read what is but called so."""
    rich = reading.file.read(5) == b"{\\rtf"
    reading.file.seek(0)
    if rich or is_binary(reading.file):
        raise BadFileError(_("Files of this kind are not read. Save it as docx, pptx, xlsx, odt or pdf."))
    yield from text.read_plain(reading)


READERS: dict[str, Reader] = {
    **PLAIN,
    **dict.fromkeys(("html", "htm", "xhtml"), html.read_html),
    **dict.fromkeys(("docx", "docm"), office.read_docx),
    **dict.fromkeys(("pptx", "pptm"), office.read_pptx),
    **dict.fromkeys(("xlsx", "xlsm"), office.read_xlsx),
    **dict.fromkeys(("odt", "ods", "odp"), opendocument.read_odf),
    "epub": epub.read_epub,
    "eml": mail.read_mail,
    "pdf": pdf.read_pdf,
    **dict.fromkeys(_FOREIGN.split(), _read_foreign),
}
"""All of them."""


def is_known(name: str) -> bool:
    """Whether files with such a name are read."""
    return _suffix(name) in READERS


def is_plain(name: str) -> bool:
    """Whether files with such a name are plain text, if they are read at all."""
    return _suffix(name) in PLAIN or not is_known(name)


def is_binary(file: BinaryIO) -> bool:
    """Whether the beginning of a file says that it is no text."""
    head = file.read(4096)
    file.seek(0)
    return b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff"))


def read(reading: Reading, *, of_web: bool = False) -> Iterator[Block]:
    """Read a file by its suffix; what has none that is known, as text if it is such.

    Args:
        reading: what is read.
        of_web: of a page, take the main text alone.

    Raises:
        UserError: it cannot be read; while the blocks are taken.
    """
    _check_magic(reading.file)
    characters = 0
    reader = READERS.get(_suffix(reading.name), text.read_plain)
    if of_web and reader is html.read_html:
        reader = html.read_page
    for block in reader(reading):
        left = MOST_CHARACTERS - characters
        characters += len(block.text)
        if characters > MOST_CHARACTERS:
            if left:
                yield replace(block, text=block.text[:left])
            reading.notes.append(
                _("It was read up to {most} million characters.").format(most=MOST_CHARACTERS // 10**6)
            )
            return
        yield block


def _check_magic(file: BinaryIO) -> None:
    """Refuse what other programs wrote under these names before the formats of today."""
    if file.read(8) == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise BadFileError(
            _("It is a file of Office 97 to 2003, or encrypted. Save it in a format of today, such as docx.")
        )
    file.seek(0)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()
