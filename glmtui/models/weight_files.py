"""Weight files: read tensor by tensor, memory-mapped, checked on the way, and let go of after use.

Nothing a file holds is ever executed: pickles are read with ``weights_only=True``, safetensors hold no code.
"""

from __future__ import annotations

import errno
import io
import math
import os
import pickle
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glmtui.errors import BadFileError
from glmtui.hub.files import utf8_name
from glmtui.hub.integrity import check_weight_file
from glmtui.memory import MappedPages
from glmtui.protocol.phrases import Phrase, _
from glmtui.quant import cpu
from glmtui.text.quoting import quoted, reason_of

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors names the system's number."""
_ZIP = b"PK\x03\x04"
_NAME_LENGTHS = 26
"""Bytes of a part's header in a zip file before the lengths of its name and its other fields."""
_DAMAGED = (
    RuntimeError,  # what torch's own reader raises
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    OverflowError,
)


def read_file(
    file: Path, *, stays: bool = False, once: bool = False, verify: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """Yield ``(name, tensor)`` of one ``.safetensors`` or ``.bin`` file, memory-mapped where possible.

    A tensor's pages stay in memory until nobody refers to it; with `stays`, for a file whose tensors are used
    as they lie, until nobody refers to any. `once` says that the file is not read again soon, so that the
    system need not keep it in memory either. Without `verify` the checksums of a pickle are not compared: for
    a look at a few of its tensors.

    Raises:
        UserError: the file is damaged, cut short, or a pickle that would execute code.
    """
    check_weight_file(file)
    pages = None
    tensors = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file, verify)
    for name, tensor in tensors:
        if tensor.is_complex():  # PyTorch would drop the imaginary part with a warning of its own
            message = _("{path}: {name} holds complex numbers; weights are real ones.")
            raise BadFileError(message.format(path=file, name=quoted(name)))
        if not stays:
            pages = pages or MappedPages(file, once=once)
            pages.let_go_after(tensor)
        yield name, tensor


def is_finite(tensor: Tensor) -> bool:
    """Return whether all values of a tensor are numbers, also in types that PyTorch cannot ask (float8)."""
    return bool((tensor.float() if tensor.dtype.itemsize == 1 else tensor).isfinite().all())


def _read_safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    with _open_tensors(file) as tensors:
        for name in tensors.keys():  # noqa: SIM118 (it is no dict)
            try:
                tensor = tensors.get_tensor(name)
            except (SafetensorError, *_DAMAGED) as error:
                raise BadFileError(_damaged(file, error)) from error
            yield name, tensor


@contextmanager
def _open_tensors(file: Path) -> Iterator[Any]:
    try:
        with utf8_name(file) as named:
            opened = safe_open(named, framework="pt")
    except (SafetensorError, OSError) as error:
        raise BadFileError(_damaged(file, error)) from error
    with opened as tensors:
        yield tensors


def _read_pickle(file: Path, verify: bool) -> Iterator[tuple[str, Tensor]]:
    try:
        with file.open("rb") as stream:
            zipped = stream.read(len(_ZIP)) == _ZIP  # files before torch 1.6 are not, and cannot be mapped
        with utf8_name(file) as named, torch.serialization.safe_globals(_arrays()):
            state = torch.load(named, map_location="cpu", weights_only=True, mmap=zipped)
    except _DAMAGED as error:
        if refused := re.search(r"GLOBAL\s+([\w.]+)", str(error)):
            raise BadFileError(
                _(
                    "{path} asks to run code while it is read ({name}). That was refused and nothing was "
                    "run; do not use this file."
                ).format(path=file, name=quoted(refused[1]))
            ) from error
        raise BadFileError(_damaged(file, error)) from error
    if not isinstance(state, dict):
        raise BadFileError(_("{path} is not a table of weights").format(path=file))
    if isinstance(inner := state.get("module"), dict):  # DeepSpeed's, next to what it trains with
        state = inner
    with _Checksums(file) if zipped and verify else nullcontext() as checksums:
        for name in list(state):
            tensor = state.pop(name)  # so that memory goes as soon as the caller has done with the tensor
            if not isinstance(tensor, Tensor):
                continue
            if tensor.layout != torch.strided or tensor.is_quantized:
                message = _("{path}: {name} is sparse or quantised by torch, which no published model is.")
                raise BadFileError(message.format(path=file, name=quoted(str(name))))
            if checksums is not None:
                checksums.reach(tensor)
            yield str(name), tensor
        if checksums is not None:
            checksums.reach()


def _arrays() -> list[Any]:
    """Return what rebuilds NumPy's arrays, which hold data alone.

    DeepSpeed writes the state of NumPy's random numbers next to the weights.
    """
    rebuild = np.empty(0).__reduce__()[0]
    homes = ("numpy.core.multiarray", "numpy._core.multiarray")  # before 2.0, and since
    kinds = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith("Int32DType")]
    return [*((rebuild, f"{home}._reconstruct") for home in homes), np.ndarray, np.dtype, *kinds]


class _Checksums:
    """Reads a zip file in a thread of its own and compares the checksums of its parts.

    It runs ahead of those who use the tensors, which are mapped and not checked by anybody else, and brings
    the file into memory for them. It keeps a distance within which memory can be had again after use.
    """

    _CHUNK = 1 << 18
    """Bytes read at a time: they are still in the processor's cache when they are summed up."""
    _AHEAD = 1 << 28
    """Bytes that it is ahead at most."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._pages = MappedPages(file)
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._checked: float = 0
        """Up to where the file is as it was written."""
        self._wanted: float = 0
        """Up to where it was asked for."""
        self._thread = threading.Thread(target=self._run, name="checksums", daemon=True)

    def __enter__(self) -> _Checksums:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._changed:
            self._wanted = -math.inf
            self._changed.notify_all()
        self._thread.join()

    def reach(self, tensor: Tensor | None = None) -> None:
        """Wait until the file is checked up to the end of `tensor`, or all of it.

        Where it is not known where a tensor lies, the file is checked next to its use.

        Raises:
            UserError: a part of the file is not what was written.
        """
        end = math.inf if tensor is None else self._pages.end_of(tensor)
        with self._changed:
            self._wanted = math.inf if end is None else max(self._wanted, end)
            self._changed.notify_all()
            self._changed.wait_for(lambda: end is None or self._checked >= end)
        if self._error is not None:
            raise BadFileError(_damaged(self._file, self._error)) from self._error

    def _run(self) -> None:
        try:
            with self._file.open("rb", buffering=0) as stream, zipfile.ZipFile(stream) as archive:
                for part in sorted(archive.infolist(), key=lambda part: part.header_offset):
                    stored = part.compress_type == zipfile.ZIP_STORED
                    if not (self._check(stream, part) if stored else self._inflate(archive, part)):
                        return
        except (zipfile.BadZipFile, struct.error, OSError, EOFError, NotImplementedError) as error:
            self._error = error
        finally:
            self._pass(math.inf)

    def _pass(self, place: float) -> bool:
        """Tell that the file is checked up to `place`; return whether to go on, when it is time."""
        with self._changed:
            self._checked = place
            self._changed.notify_all()
            self._changed.wait_for(lambda: not 0 <= self._wanted < place - self._AHEAD)
            return self._wanted >= 0

    def _check(self, stream: FileIO, part: zipfile.ZipInfo) -> bool:
        """Compare what lies in the file as it is: all that torch writes. Returns whether to go on."""
        stream.seek(part.header_offset + _NAME_LENGTHS)
        lengths = struct.unpack("<HH", stream.read(4))
        here = stream.seek(sum(lengths), os.SEEK_CUR)
        end, crc = here + part.file_size, 0
        kernels = cpu.loaded()
        buffer = torch.empty(self._CHUNK, dtype=torch.uint8)
        while here < end:
            chunk = buffer[: end - here]
            count = stream.readinto(chunk.numpy().data)
            if not count:
                raise EOFError(_("it ends within {part}").format(part=part.filename))
            read = chunk[:count]
            crc = kernels.crc32(read, crc) if kernels is not None else zlib.crc32(read.numpy().data, crc)
            here += count
            if here < end and not self._pass(here):
                return False
        if crc != part.CRC:
            raise zipfile.BadZipFile(_("the checksum of {part} is wrong").format(part=part.filename))
        return self._pass(end)

    def _inflate(self, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
        with archive.open(part) as content:
            while content.read(self._CHUNK):
                if not self._pass(part.header_offset):
                    return False
        return True


def _damaged(file: Path, error: BaseException) -> Phrase:
    # torch's own words on a pickle are advice to read it in a way that can execute it.
    foreign = isinstance(error, pickle.UnpicklingError)
    return _("{path} ({size} bytes) is damaged or cut short: {reason}. Download it again.").format(
        path=file,
        size=file.stat().st_size,
        reason=_("it is not what torch.save writes") if foreign else reason_of(error),
    )


# --- writing ---


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file.

    Raises:
        OSError: it cannot be written; safetensors has an error of its own for that.
    """
    try:
        save_file(dict(tensors), file, metadata={"format": "pt"})
    except SafetensorError as error:
        number = int(found[1]) if (found := _SYSTEM_ERROR.search(str(error))) else errno.EIO
        raise OSError(number, os.strerror(number), str(file)) from error


def write_pickle(content: Mapping[str, Any], file: Path) -> None:
    """Write a file as `torch.save` does, by way of the memory: for what was trained, which is small.

    Raises:
        OSError: it cannot be written; of a full disk torch's own writer says nothing but that it failed.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    file.write_bytes(buffer.getbuffer())
