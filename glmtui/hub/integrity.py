"""Whether weight files are whole and belong to their config, told by tables and sizes alone. No torch."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmtui.errors import BadFileError
from glmtui.hub import foreign
from glmtui.hub.fields import Integer
from glmtui.hub.files import check_regular, open_regular, parse_json
from glmtui.hub.model_dir import ModelFolder
from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.text.units import size

_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header."""
_LONGEST_HEADER = 16 << 20
"""Bytes; a shard of a large GLM with experts has a few hundred thousand."""
_PACKED = 1 << 20
"""Bytes by which a zip file may have more in it than it has itself."""
_MOST_TENSORS = 1 << 20
_SMALL = 64 << 20
"""Bytes of a network that is built whatever the files have: reading them tells better what is wrong."""
_OFFSET = Integer(0, 1 << 60)


def check_complete(folder: ModelFolder) -> None:
    """Look whether every weight file has its end.

    What lies between is verified while it is read.

    Raises:
        UserError: a file was cut short, or is none that glmtui reads; the message names it.
    """
    for file in folder.weight_files:
        check_weight_file(file)


def check_weight_file(file: Path) -> None:
    """Look whether a weight file is what its name says, up to its end; see `check_complete`."""
    found = check_regular(file)
    if other := foreign.other_program(file):
        raise BadFileError(other)
    reason = _safetensors_fault(file) if file.suffix == ".safetensors" else _zip_fault(file)
    if reason:
        raise BadFileError(
            _("{path} ({size} bytes) is damaged or cut short: {reason}. Download it again.").format(
                path=file, size=found.st_size, reason=reason
            )
        )


def check_belongs(folder: ModelFolder) -> None:
    """Compare the sizes in ``config.json`` with those of the weight files, before anything is made of them.

    Raises:
        UserError: the config calls for more than the files can hold.
    """
    bits = 8 if folder.quant == "none" else int(folder.quant)
    least = folder.sizes.parameters * bits // 16  # half of that; no published file has as little
    if least > max(folder.file_bytes, _SMALL):
        message = _(
            "{path} calls for {count} weights, at least {least}, but the weight files have {size}: they do "
            "not belong together. Take both from the same release."
        )
        raise BadFileError(
            message.format(
                path=folder.path / "config.json",
                count=f"{folder.sizes.parameters:,}",
                least=size(least),
                size=size(folder.file_bytes),
            )
        )


def _safetensors_fault(file: Path) -> Phrase:
    total = check_regular(file).st_size
    with open_regular(file) as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if not 0 < length <= min(total - _LENGTH_BYTES, _LONGEST_HEADER):
            return _("its header is incomplete")
        try:
            header = parse_json(stream.read(length))
        except ValueError:
            return _("its header cannot be read")
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS:
        return _("its header cannot be read")
    ends = [0]
    for name, entry in header.items():
        if name != "__metadata__":
            if not _is_entry(entry):
                return _("its header cannot be read")
            ends.append(entry["data_offsets"][1])
    expected = _LENGTH_BYTES + length + max(ends)
    return NOTHING if total == expected else _("it should have {count} bytes").format(count=expected)


def _is_entry(entry: Any) -> bool:
    """Whether `entry` describes a tensor: its type, its shape, and where its bytes begin and end."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    return (
        isinstance(shape, list)
        and isinstance(offsets, list)
        and len(shape) <= 8
        and len(offsets) == 2
        and all(map(_OFFSET.takes, [*shape, *offsets]))
        and offsets[0] <= offsets[1]
    )


def _zip_fault(file: Path) -> Phrase:
    """A zip's table of contents is at its end; a pickle from before torch 1.6 is no zip and has none."""
    with open_regular(file) as stream:
        if stream.read(2) != b"PK":
            return NOTHING
        try:
            with zipfile.ZipFile(stream) as archive:
                parts = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OverflowError, struct.error):
            return _("its end is missing")
        held = stream.seek(0, os.SEEK_END)
    # torch stores everything as it is: what unpacks to much more could take any amount of memory.
    if sum(part.file_size for part in parts) > held + _PACKED:
        return _("it unpacks to more than it has")
    return NOTHING
