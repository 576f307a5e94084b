"""The models there are: the built-in one, those on this machine, and those that can be downloaded.

Looks at folders and file sizes only. Folders that a person added are kept in a text file, one a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from glmtui import paths
from glmtui.atomic import write_atomically
from glmtui.errors import NotFoundError, StorageError, UserError
from glmtui.hub import cache as hub_cache
from glmtui.hub import catalog, memory_estimate, sat
from glmtui.hub.catalog import KnownModel
from glmtui.hub.files import JSON_BYTES, read
from glmtui.hub.model_dir import ModelFolder, Sizes, text_config
from glmtui.protocol.events import ModelList
from glmtui.protocol.models import ModelEntry, Quant
from glmtui.protocol.phrases import NOTHING, _
from glmtui.text.quoting import reason_of

QUANTS: tuple[Quant, ...] = ("none", "8", "4")


def list_models(device: str = "cpu", device_name: str = "", free_memory: int = 0) -> ModelList:
    """Look at everything there is; takes some milliseconds a model and no network."""
    here = [_builtin(device), *_cached(device), *_folders(device)]
    free_disk = hub_cache.free_bytes()
    entries = [*here, *_absent(device, here)]
    if (found := _recommended(entries, device, free_memory, free_disk)) is not None:
        at = next(at for at, entry in enumerate(entries) if entry.source == found.source)
        del entries[at]
        entries.insert(len(here) if found.place == "absent" else at, found)
    return ModelList(
        entries=tuple(entries),
        device=device,
        device_name=device_name,
        free_memory=free_memory,
        free_disk=free_disk,
        cache=str(hub_cache.folder()),
    )


def _recommended(
    entries: Iterable[ModelEntry], device: str, free_memory: int, free_disk: int
) -> ModelEntry | None:
    """Return the model that answers best of those that fit, with how to load it; None if none does.

    A processor reads 4 bits a weight fastest; elsewhere as many are taken as there is room for.
    """
    there = {entry.source: entry for entry in entries if not entry.problem}
    quants: tuple[Quant, ...] = ("4",) if device == "cpu" else QUANTS
    for name in catalog.BEST:
        entry = there.get(name)
        if entry is None or (device == "cpu" and entry.parameters > catalog.MOST_ON_CPU):
            continue
        if entry.place == "absent" and entry.file_bytes - entry.part_bytes > free_disk:
            continue
        needs = dict(entry.needs)
        for quant in quants:
            if quant in needs and needs[quant] <= free_memory:
                return replace(entry, recommended=quant)
    return None


def examine(path: Path, device: str = "cpu") -> ModelEntry:
    """Describe the model in a folder, by its content; what is wrong with it becomes its `problem`."""
    entry = ModelEntry(str(path), path.name, "folder", str(path))
    try:
        folder = ModelFolder.open(path)
        sizes = folder.sizes
        file_bytes, quant = folder.file_bytes, folder.quant
    except UserError as error:
        return replace(entry, problem=error.phrase)
    except OSError as error:  # it goes while it is looked at
        return replace(entry, problem=reason_of(error))
    return replace(
        entry,
        parameters=sizes.parameters,
        quant=quant,
        format=f"{_format(quant, folder.config.get('torch_dtype') or 'float16')} "
        f"{folder.weight_files[0].suffix.removeprefix('.')}",
        max_length=_max_length(folder),
        file_bytes=file_bytes,
        needs=_needs(sizes, quant, device),
    )


# --- folders that a person added ---


def folders_file() -> Path:
    """Where the added folders are written, one a line."""
    return paths.data_dir() / "model-folders.txt"


def added_folders() -> list[Path]:
    """Return the folders that were added, whether they are still there or not."""
    try:
        content = read(folders_file(), JSON_BYTES)
    except FileNotFoundError:
        return []
    lines = map(bytes.strip, content.replace(b"\0", b"").split(b"\n"))
    return [Path(os.fsdecode(line)) for line in lines if line]


def add_folder(path: str | Path) -> Path:
    """Remember a folder: a model, or a folder of models.

    Raises:
        UserError: there is no such folder, or no model in it; what is wrong with a model is said.
    """
    folder = paths.typed(path).absolute()
    if not folder.is_dir():
        raise NotFoundError(_("There is no folder {path}").format(path=path))
    found = list(_models_in(folder))
    if found in ([], [folder]):
        ModelFolder.open(folder)  # says what is missing or wrong
    present = added_folders()
    if folder not in present:
        _write_folders([*present, folder])
    return folder


def forget_folder(path: str | Path) -> None:
    """Take a folder off the list; nothing in it is touched.

    Raises:
        UserError: it was not added.
    """
    folder, present = paths.typed(path).absolute(), added_folders()
    holder = next((added for added in present if added in (folder, folder.parent)), None)
    if holder is None:
        raise NotFoundError(_("{path} is not among the folders that were added.").format(path=path))
    _write_folders([added for added in present if added != holder])


def _write_folders(folders: Iterable[Path]) -> None:
    file = folders_file()
    try:
        paths.make_private(file.parent)
        write_atomically(file, b"".join(os.fsencode(folder) + b"\n" for folder in folders))
    except OSError as error:
        message = _("{path} cannot be written: {error}")
        raise StorageError(message.format(path=file, error=reason_of(error))) from error


def _models_in(folder: Path) -> Iterator[Path]:
    try:
        if _has_config(folder):
            inside = [folder]
        else:
            inside = [child for child in sorted(folder.iterdir()) if _has_config(child)]
    except OSError:
        return
    yield from inside


def _has_config(folder: Path) -> bool:
    return (folder / "config.json").exists() or sat.is_sat(folder)


# --- the parts of the list ---


def _builtin(device: str) -> ModelEntry:
    entry = examine(catalog.BUILTIN, device)
    return replace(
        entry, source=None, name="nano", place="builtin", licence=_("Comes with glmtui, under its licence.")
    )


def _cached(device: str) -> Iterator[ModelEntry]:
    """What the hub cache has, of known models and of others that are of the family."""
    for snapshot in hub_cache.snapshots():
        known = catalog.find(snapshot.hub_id)
        entry = examine(snapshot.path, device)
        if entry.problem and known is None:
            continue  # a model of another kind, which another program fetched
        source = known.name if known else snapshot.hub_id
        if snapshot.revisions and hub_cache.MAIN not in snapshot.revisions:
            source += f"@{snapshot.revisions[0]}"
        elif not snapshot.revisions:
            source += f"@{snapshot.commit[:8]}"
        yield replace(
            entry,
            source=source,
            name=source,
            place="hub",
            hub_id=snapshot.hub_id,
            licence=known.licence if known else NOTHING,
            chats=known is None or known.chats,
        )


def _folders(device: str) -> Iterator[ModelEntry]:
    try:
        folders = added_folders()
    except UserError as error:
        file = folders_file()
        yield ModelEntry(str(file), file.name, "folder", str(file), problem=error.phrase)
        return
    for added in folders:
        if not _is_there(added):
            problem = _("There is no folder {path}").format(path=added)
            yield ModelEntry(str(added), added.name, "folder", str(added), problem=problem)
            continue
        for path in _models_in(added):
            known = catalog.find(path.name)
            yield replace(examine(path, device), licence=known.licence if known else NOTHING)


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # a name that is too long, a folder that is not ours
        return False


def _absent(device: str, here: list[ModelEntry]) -> Iterator[ModelEntry]:
    there = {entry.source for entry in here if entry.place == "hub"}
    for known in catalog.KNOWN:
        if known.name not in there:
            yield describe(known, device)


def describe(known: KnownModel, device: str = "cpu") -> ModelEntry:
    """Describe a published model that is not here."""
    return ModelEntry(
        known.name,
        known.name,
        "absent",
        hub_id=known.hub_id,
        parameters=known.sizes.parameters,
        quant=known.quant,
        format=_format(known.quant, known.dtype),
        max_length=known.max_length,
        file_bytes=known.file_bytes,
        part_bytes=hub_cache.size_of(known.hub_id),
        needs=_needs(known.sizes, known.quant, device),
        licence=known.licence,
        chats=known.chats,
    )


def _needs(sizes: Sizes, stored: Quant, device: str) -> tuple[tuple[Quant, int], ...]:
    quants = QUANTS if stored == "none" else (stored,)
    return tuple((quant, memory_estimate.usual(sizes, quant, device)) for quant in quants)


def _format(quant: Quant, dtype: str) -> str:
    if quant != "none":
        return f"INT{quant}"
    names = {"float16": "FP16", "bfloat16": "BF16", "float32": "FP32"}
    return names.get(dtype.removeprefix("torch."), "?")


def _max_length(folder: ModelFolder) -> int:
    for key in ("seq_length", "max_position_embeddings", "max_sequence_length"):
        if length := text_config(folder.config).get(key):
            return int(length)
    return 0
