"""Quantised models on disk: the cache of those made while loading, and the folders of ``glmtui quantize``.

Such a folder has a ``config.json`` (the source's, with ``quantization_bit`` and ``quantization_format``) and
one ``model.safetensors``, whose tensors are mapped and multiplied as they lie. A folder is written under
another name and renamed when all of it is written, so that none that exists is ever half.

A model in the cache is used before the disk has all of it; until then a file ``unsynced`` in its folder tells
with which start of the machine. When it was started anew meanwhile, the model is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from glmtui.atomic import sync_directory, write_atomically
from glmtui.errors import UserError
from glmtui.hub.config import read_config
from glmtui.hub.files import to_json
from glmtui.hub.integrity import check_complete
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.checkpoint import expected_shapes, new_network
from glmtui.paths import cache_dir, make_private
from glmtui.quant.formats import Bits, Done, Layout, Packed
from glmtui.quant.linear import QuantizedWeight
from glmtui.quant.load import FORMAT, Scheme, entries, tensor_layout
from glmtui.quant.partial import PREFIX, partial_folder, remove_leftovers, sync_file

CACHED_FROM = 256 << 20
"""Checkpoints smaller than this, in bytes, are quantised at every start: it takes a moment."""
Names = Mapping[str, tuple[int, ...]]
"""Tensors of a network that is not quantised, with their shapes."""
Loaded = Callable[[], nn.Module | None]
"""Returns a network with quantised layers, None once nobody uses it any more."""
_UNSYNCED = "unsynced"
_SEAL = "seal"
"""A file next to the weights, with what `_seal` says of them."""
_SAMPLES, _SAMPLE = 64, 4096
"""Places all over the weights, and bytes looked at in each."""
_LONGEST_NAME = 200
"""Bytes of a model's name in that of its folder: no name has more than 255."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_TIME_DRIFT = 60
"""Seconds by which the time at which the machine was started may seem to move, as clocks are set."""
_NAMES = {torch.uint8: "U8", torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}


class TensorFile:
    """Writes a safetensors file one tensor at a time, in any order; a context manager.

    Args:
        path: the file to make.
        layout: all tensors that will come.

    Raises:
        OSError: the disk is full or the place cannot be written; the file is then to be thrown away.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._offsets: dict[str, tuple[int, int]] = {}
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, (dtype, shape) in layout.items():
            start, end = end, end + dtype.itemsize * torch.Size(shape).numel()
            self._offsets[name] = (start, end)
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % 64)  # tensors then start on a cache line
        self._start = 8 + len(text)
        self._file = path.open("wb", buffering=0)
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._start + end)

    def write(self, name: str, tensor: Tensor) -> None:
        """Write one tensor where it belongs. Raises KeyError when it was not announced or has come before."""
        start, end = self._offsets.pop(name)
        data = tensor.contiguous().flatten().view(torch.uint8).numpy().data
        assert data.nbytes == end - start, name
        self._file.seek(self._start + start)
        while data:  # a file without a buffer may take less than it is given
            data = data[self._file.write(data) :]

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_more: object) -> None:
        with self._file:
            assert kind is not None or not self._offsets, f"{len(self._offsets)} tensors were never written"


def write_folder(source: ModelFolder, bits: Bits, target: Path, done: Done | None = None) -> None:
    """Quantise `source` into the new folder `target`, with everything but the weights copied.

    Raises:
        UserError: the source is damaged.
        OSError: no room, no permission, or `target` exists and is not empty.
    """
    remove_leftovers(target.parent, target.name)
    with partial_folder(target) as partial:
        write_weights(source, bits, partial, done)
        for file in source.path.iterdir():
            if (
                file.is_file()
                and file.suffix in (".json", ".jinja", ".model", ".txt", ".py", ".md")
                and not (file.name == "config.json" or file.name.endswith(".index.json"))
            ):
                shutil.copyfile(file, partial / file.name)
        for file in partial.iterdir():
            sync_file(file)
        partial.rename(target)
        sync_directory(target.parent)


def write_weights(
    source: ModelFolder,
    bits: Bits,
    folder: Path,
    done: Done | None = None,
    *,
    names: Names | None = None,
    loaded: Loaded | None = None,
) -> None:
    """Write ``model.safetensors`` and ``config.json`` of the quantised `source` to `folder`.

    Args:
        source: the model.
        bits: of the quantised weights.
        folder: where they go.
        done: for progress.
        names: the tensors that `source` has, with their float shapes; None for all that its config calls for.
        loaded: the network that holds these tensors quantised; None makes them of the files.
    """
    scheme = Scheme.of(source, bits)
    empty = new_network(source)
    shapes = names or expected_shapes(empty)
    layout: Layout = {}
    for name, shape in shapes.items():
        layout |= tensor_layout(empty, name, shape, scheme)
    layout = dict(
        sorted(layout.items(), key=lambda item: item[1][0] != torch.uint8)
    )  # whole cache lines first
    tensors = _entries_of(loaded, shapes) if loaded else entries(empty, source, shapes, scheme, done)
    with TensorFile(folder / "model.safetensors", layout) as file:
        for name, tensor in tensors:
            if isinstance(tensor, Packed):
                for part, each in tensor.tensors().items():
                    file.write(f"{name}.{part}", each)
            else:
                file.write(name, tensor.to(layout[name][0]))
    config = {
        **source.config,
        "quantization_bit": bits,
        "quantization_format": FORMAT,
        "quantization_published": scheme.published,
        "quantized_from": str(source.path),
    }
    (folder / "config.json").write_bytes(to_json(config))


def _entries_of(loaded: Loaded, names: Iterable[str]) -> Iterator[tuple[str, Packed | Tensor]]:
    for name in names:
        network = loaded()
        if network is None:
            raise OSError("the model was let go of")
        owner, _dot, leaf = name.rpartition(".")
        weight = getattr(network.get_submodule(owner), leaf)
        yield name, weight.packed if isinstance(weight, QuantizedWeight) else weight


# --- the cache ---


@dataclass(frozen=True)
class Entry:
    """A model in the cache."""

    path: Path
    source: str
    """The folder it was made from."""
    bits: int
    nbytes: int


def cache_folder() -> Path:
    """Where quantised models are kept; may be deleted at any time."""
    return cache_dir() / "quantized"


def cached(source: ModelFolder, bits: Bits) -> Path:
    """Return where `source` quantised to `bits` lies, or would: a change of its files gives another place."""
    digest = hashlib.sha256(f"{FORMAT}\0{bits}\0".encode())
    digest.update(json.dumps(source.config, sort_keys=True).encode())
    for file in source.weight_files:
        info = file.stat()
        digest.update(os.fsencode(file.resolve()) + f"\0{info.st_size}\0{info.st_mtime_ns}\0".encode())
    name = os.fsdecode(os.fsencode(source.path.name)[:_LONGEST_NAME])
    return cache_folder() / f"{name}-int{bits}-{digest.hexdigest()[:16]}"


def open_cached(source: ModelFolder, bits: Bits) -> ModelFolder | None:
    """Return `source` as it lies quantised in the cache, or None; an entry that was damaged is removed."""
    folder = cached(source, bits)
    try:
        found = ModelFolder.open(folder)
        check_complete(found)
        _check_seal(folder)
        with contextlib.suppress(FileNotFoundError):  # the disk has everything, as of now perhaps
            if not _runs_since((folder / _UNSYNCED).read_text(encoding="ascii")):
                raise OSError("the machine stopped before the disk had everything")
            _finish(folder)
    except (UserError, OSError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return found


def _start_of_machine() -> str:
    """Return what tells this start of the machine from all others.

    That is the time of it only where the system has nothing better: clocks are set, and on a machine whose
    clock stops with it they may say the same at every start.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(psutil.boot_time())


def _runs_since(start: str) -> bool:
    """Whether the machine has not been started anew since `_start_of_machine` said so."""
    if start == _start_of_machine():
        return True
    try:
        return abs(float(start) - psutil.boot_time()) <= _BOOT_TIME_DRIFT
    except ValueError:
        return False


def _check_seal(folder: Path) -> None:
    """Compare an entry with its seal; one of a former version has none, and gets it as it is.

    Raises:
        OSError: it is not as it was written.
    """
    seal = folder / _SEAL
    if not seal.exists():
        with contextlib.suppress(OSError):  # where it cannot be written, it is as it was
            write_atomically(seal, _seal(folder).encode())
    elif seal.read_text(encoding="ascii", errors="replace") != _seal(folder):
        raise OSError("it is not what was written")


def _seal(folder: Path) -> str:
    """Return a digest of an entry's config, table of tensors, size, and pages all over its weights.

    Not of every byte: that would take as long as loading it. Numbers that are wrong harm nobody, but a file
    whose pages the disk lost is to be told from a good one.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    with (folder / "model.safetensors").open("rb") as stream:
        length = os.fstat(stream.fileno()).st_size
        digest.update(f"\0{length}\0".encode())
        digest.update(stream.read(8 + int.from_bytes(stream.read(8), "little")))
        for sample in range(_SAMPLES):
            stream.seek(length * sample // _SAMPLES)
            digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def fill_cache(
    source: ModelFolder,
    bits: Bits,
    done: Done | None = None,
    *,
    names: Names | None = None,
    loaded: Loaded | None = None,
) -> ModelFolder:
    """Quantise `source` into the cache, or put there what is `loaded` of it already; see `write_weights`.

    Raises:
        UserError: the source is damaged.
        OSError: it cannot be written there; what was written is removed.
    """
    make_private(cache_folder())
    remove_leftovers(cache_folder())
    target = cached(source, bits)
    with partial_folder(target) as partial:
        write_weights(source, bits, partial, done, names=names, loaded=loaded)
        (partial / _SEAL).write_text(_seal(partial), encoding="ascii")
        (partial / _UNSYNCED).write_text(_start_of_machine(), encoding="ascii")
        try:
            partial.rename(target)
        except OSError:
            if not (target / "config.json").is_file():  # else another process was faster
                raise
    found = ModelFolder.open(target)
    _finish(target)
    return found


def fill_cache_later(source: ModelFolder, bits: Bits, network: nn.Module, names: Names) -> None:
    """Put `network`, which holds `source`, into the cache, in a thread that may end with the program."""
    loaded = weakref.ref(network)

    def fill() -> None:
        with contextlib.suppress(OSError, UserError):  # it is put in order again at the next start, then
            if has_room(source, bits):
                fill_cache(source, bits, names=names, loaded=loaded)

    threading.Thread(target=fill, name="fill-cache", daemon=True).start()


def _finish(folder: Path) -> None:
    """Bring a model in the cache to the disk in a thread of its own, which may end with the program."""

    def finish() -> None:
        with contextlib.suppress(OSError):  # removed meanwhile, or the disk failed: it is made again then
            for file in folder.iterdir():
                sync_file(file)
            sync_directory(folder.parent)
            (folder / _UNSYNCED).unlink()

    threading.Thread(target=finish, name="sync", daemon=True).start()


def has_room(source: ModelFolder, bits: Bits) -> bool:
    """Whether the disk of the cache has room for `source` quantised, with a tenth to spare."""
    return free_bytes(cache_folder()) > 1.1 * least_bytes(source, bits)


def least_bytes(source: ModelFolder, bits: Bits) -> int:
    """Bytes that `source` quantised takes at least, on the disk."""
    return source.sizes.memory_bytes("8" if bits == 8 else "4", 1)


def free_bytes(place: Path) -> int:
    """Bytes free on the disk where `place` is, or would be made."""
    place = place.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def list_cache() -> list[Entry]:
    """Return the models in the cache."""
    folder = cache_folder()
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with contextlib.suppress(UserError):  # half of one, or damaged: it is made again when it is wanted
            config = read_config(path)
            if config.get("quantization_format") and not path.name.startswith(PREFIX):
                source, bits = str(config.get("quantized_from")), config.get("quantization_bit") or 0
                found.append(Entry(path, source, bits, _size_of(path)))
    return found


def _size_of(folder: Path) -> int:
    """Return the bytes of the files in `folder`; what goes meanwhile, as ``unsynced`` may, counts no more."""
    size = 0
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                size += file.stat().st_size
    return size


def clear_cache() -> int:
    """Delete the models in the cache; return how many bytes that freed."""
    freed = sum(entry.nbytes for entry in list_cache())
    shutil.rmtree(cache_folder(), ignore_errors=True)
    return freed
