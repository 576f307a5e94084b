"""The folder of a run: checkpoints that are complete or not there, and what the run leaves for the chat.

A checkpoint has the published files (``pytorch_model.bin`` with what was trained, ``config.json``,
``optimizer.pt``, ``trainer_state.json``), so that either trainer goes on from the other's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glmtui.atomic import make_directory, sync_directory
from glmtui.errors import BadFileError, StorageError
from glmtui.hub.files import os_errors_for_people, read_json_object
from glmtui.models.weight_files import read_file, write_pickle
from glmtui.protocol.phrases import _
from glmtui.quant.partial import partial_folder, remove_leftovers, sync_file
from glmtui.text.quoting import reason_of

_NAME = re.compile(r"checkpoint-(\d+)")
STATE, OPTIMIZER = "trainer_state.json", "optimizer.pt"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "pytorch_model.bin", "model.safetensors")
"""Where what was trained lies, whoever saved it."""
RESULTS = ("config.json", "adapter_config.json", *WEIGHTS)
"""What a run leaves, and what a model's folder has: one must not be written over the other."""
_BLOCK, _BLOCKS = 4096, 32
"""Bytes that are looked at in one place of a file of weights, and the places."""


def put_files(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make files in a folder of its own, then put them into `folder`, each at once and durably.

    Raises:
        StorageError: they cannot be written.
    """
    try:
        make_directory(folder)
        with partial_folder(folder / "files") as made:
            write(made)
            for file in sorted(made.iterdir()):
                sync_file(file)
                os.replace(file, folder / file.name)
        sync_directory(folder)
    except OSError as error:
        raise _unwritten(folder, error) from error


def save_checkpoint(
    out: Path,
    step: int,
    write: Callable[[Path], None],
    optimizer: Mapping[str, Any],
    state: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write ``checkpoint-N`` below `out`, complete or not at all; remove all but the `keep` last ones.

    Args:
        out: of the run.
        step: steps that are done.
        write: writes what was trained into the folder it is given.
        optimizer: its state.
        state: plain values; `read_state` gives them back.
        keep: how many stay.

    Raises:
        StorageError: it cannot be written; those before it stay.
    """
    target = out / f"checkpoint-{step}"
    try:
        make_directory(out)
        remove_leftovers(out)
        with partial_folder(target) as made:
            write(made)
            write_pickle(optimizer, made / OPTIMIZER)
            text = json.dumps({"global_step": step, **state}, ensure_ascii=False, indent=1)
            (made / STATE).write_text(text, encoding="utf-8")
            for file in made.iterdir():
                sync_file(file)
            sync_directory(made)
            if target.exists():  # the same step again, as after a resume
                shutil.rmtree(target)
            os.replace(made, target)
        sync_directory(out)
    except OSError as error:
        raise _unwritten(target, error) from error
    for _step, old in _all(out)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest checkpoint below `out`; None where there is none."""
    found = _all(out)
    return found[-1][1] if found else None


def taken_by(out: Path) -> str | None:
    """Return the name of a file in `out` that a new run would write over or be mixed with, if any."""
    return next((name for name in RESULTS if (out / name).exists()), None)


def fingerprint(files: Iterable[Path]) -> str:
    """Tell the weights of a model from those of others by the size of its files and by samples of them.

    Wherever they lie it is the same. To read gigabytes in full would take longer than a short run.

    Raises:
        UserError: they cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        with os_errors_for_people(path), path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(f"{size};".encode())
            for place in range(_BLOCKS):
                file.seek(max(size - _BLOCK, 0) * place // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def _all(out: Path) -> list[tuple[int, Path]]:
    if not out.is_dir():
        return []
    named = ((_NAME.fullmatch(path.name), path) for path in out.iterdir() if path.is_dir())
    return sorted((int(found[1]), path) for found, path in named if found)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds."""

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    state: Mapping[str, Any]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint to go on from.

    Raises:
        UserError: a file is missing, damaged, or would run code.
    """
    state = read_json_object(folder / STATE)
    step = state.get("global_step")
    if not isinstance(step, int) or step < 0 or not (folder / OPTIMIZER).is_file():
        message = _("{path} is no checkpoint to go on from: it lacks {name} or the step in {state}.")
        raise BadFileError(message.format(path=folder, name=OPTIMIZER, state=STATE))
    try:
        optimizer = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever the file makes it
        message = _("{path} is damaged: {reason}").format(path=folder / OPTIMIZER, reason=reason_of(error))
        raise BadFileError(message) from error
    return Checkpoint(step, read_weights(folder), optimizer, state)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return what was trained, by the names it was saved under.

    Raises:
        UserError: there is none, or the file is damaged.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return {name: tensor.clone() for name, tensor in read_file(folder / name)}
    raise BadFileError(
        _("{path} holds nothing that was trained: none of {names}").format(
            path=folder, names=", ".join(WEIGHTS)
        )
    )


class Clock:
    """Says when so many seconds have gone by since it last said so."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Begin to wait again."""
        self._due = time.monotonic() + self._seconds

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._due


def _unwritten(path: Path, error: OSError) -> StorageError:
    message = _("{path} cannot be written: {reason}. What was saved before is as it was.")
    return StorageError(message.format(path=path, reason=reason_of(error)))
