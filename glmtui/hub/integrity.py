"""Whether weight files are complete, told in milliseconds by tables of contents and sizes. No torch."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from glmtui.errors import BadFileError
from glmtui.hub.model_dir import ModelFolder
from glmtui.protocol.phrases import NOTHING, Phrase, _

_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header."""
_LONGEST_HEADER = 100 << 20


def check_complete(folder: ModelFolder) -> None:
    """Look whether every weight file has its end.

    What lies between is verified while it is read.

    Raises:
        UserError: a file was cut short; the message names it.
    """
    for file in folder.weight_files:
        reason = _safetensors_fault(file) if file.suffix == ".safetensors" else _zip_fault(file)
        if reason:
            raise BadFileError(
                _("{path} ({size} bytes) is damaged or cut short: {reason}. Download it again.").format(
                    path=file, size=file.stat().st_size, reason=reason
                )
            )


def _safetensors_fault(file: Path) -> Phrase:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if not 0 < length <= min(size - _LENGTH_BYTES, _LONGEST_HEADER):
            return _("its header is incomplete")
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return _("its header cannot be read")
    expected = _LENGTH_BYTES + length + max(ends, default=0)
    if size != expected:
        return _("it should have {count} bytes").format(count=expected)
    return NOTHING


def _zip_fault(file: Path) -> Phrase:
    """A zip's table of contents is at its end; a pickle from before torch 1.6 is no zip and has none."""
    with file.open("rb") as stream:
        if stream.read(2) != b"PK":
            return NOTHING
    try:
        zipfile.ZipFile(file).close()
    except (zipfile.BadZipFile, ValueError, EOFError):
        return _("its end is missing")
    return NOTHING
