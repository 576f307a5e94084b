"""Zip packages and the XML in them, within bounds: what they hold may be made to do harm."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple
from xml.parsers import expat

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _
from glmtui.retrieval.documents import MOST_TEXT

MOST_MEMBERS = 20_000
MOST_DIRECTORY = 8 << 20
"""Bytes of the list of members, which Python reads as a whole."""
DEEPEST = 256
"""Elements inside one another."""
_PIECE = 1 << 16
_LONGEST_END = (1 << 16) + 22 + 76
"""Bytes at the end of a package that say where its list of members is: with the comment, and of 64 bit."""


class Event(NamedTuple):
    """The beginning (with attributes) or end of an element, or text.

    Names have no namespace, but for the attribute that refers to a relation: ``r:id``.
    """

    kind: str
    """``start``, ``end`` or ``text``"""
    name: str
    attributes: Mapping[str, str]


_NONE: Mapping[str, str] = {}


class Package:
    """A zip file of which no more than `MOST_TEXT` bytes are unpacked in all."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._left = MOST_TEXT
        self.names = archive.namelist()
        if len(self.names) > MOST_MEMBERS:
            raise _too_big()

    def __contains__(self, name: str) -> bool:
        return name in self._archive.NameToInfo

    def read(self, name: str) -> bytes:
        """Return a member unpacked; empty where there is none."""
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Unpack a member piece by piece."""
        if name not in self:
            return
        with self._archive.open(name) as member:
            while piece := member.read(_PIECE):
                self._left -= len(piece)
                if self._left < 0:
                    raise _too_big()
                yield piece

    def xml(self, name: str) -> Iterator[Event]:
        """Parse a member while it is unpacked."""
        return events(self.pieces(name))

    def relations(self, name: str) -> dict[str, str]:
        """Return the targets of a part's relations by their id, as names of members."""
        folder, _slash, file = name.rpartition("/")
        found = {}
        for event in self.xml(f"{folder}/_rels/{file}.rels".lstrip("/")):
            if event.kind == "start" and event.name == "Relationship":
                target = event.attributes.get("Target", "")
                found[event.attributes.get("Id", "")] = resolve(folder, target)
        return found


def resolve(folder: str, target: str) -> str:
    """Return the member that `target` names, seen from `folder`."""
    parts = [] if target.startswith("/") else folder.split("/")
    for part in target.strip("/").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(filter(None, parts))


@contextmanager
def opened(file: BinaryIO) -> Iterator[Package]:
    """Open a package.

    Raises:
        BadFileError: it is none, it is encrypted or damaged, or it would unpack to too much.
    """
    try:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            yield Package(archive)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, ValueError) as error:
        raise BadFileError(_("It is damaged: {error}").format(error=error)) from error
    except RuntimeError as error:  # a password is needed
        raise BadFileError(_("It is encrypted.")) from error


def _check_directory(file: BinaryIO) -> None:
    """Refuse a package whose list of members is too long (APPNOTE.TXT of PKWARE, 4.3.14 and 4.3.16)."""
    size = file.seek(0, 2)
    start = file.seek(max(0, size - _LONGEST_END))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\5\6")
    stated = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    wide = tail.rfind(b"PK\6\6", 0, max(end, 0))  # of packages with 64 bit
    if wide >= 0:
        stated = int.from_bytes(tail[wide + 40 : wide + 48], "little")
    if min(stated, start + max(end, 0)) > MOST_DIRECTORY:
        raise _too_big()


def events(pieces: Iterator[bytes]) -> Iterator[Event]:
    """Parse XML that comes in pieces.

    Raises:
        BadFileError: it is no XML, declares entities, or is nested too deep.
    """
    found: list[Event] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise BadFileError(_("It is nested too deep."))
        found.append(Event("start", name.rpartition(" ")[2], {_plain(k): v for k, v in attributes.items()}))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        found.append(Event("end", name.rpartition(" ")[2], _NONE))

    def refuse(*_declaration: object) -> None:
        raise BadFileError(_("It declares entities, which documents have no need of."))

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: found.append(Event("text", text, _NONE))
    parser.EntityDeclHandler = refuse
    empty = True
    try:
        for piece in pieces:
            empty = False
            parser.Parse(piece, False)
            yield from found
            found.clear()
        if not empty:
            parser.Parse(b"", True)
            yield from found
    except expat.ExpatError as error:
        raise BadFileError(_("It is damaged: {error}").format(error=error)) from error


def _plain(name: str) -> str:
    namespace, _space, local = name.rpartition(" ")
    return f"r:{local}" if namespace.endswith("/relationships") else local


def _too_big() -> BadFileError:
    return BadFileError(
        _("It unpacks to more than {most} MB, which is too much.").format(most=MOST_TEXT >> 20)
    )
