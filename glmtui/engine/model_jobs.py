"""What runs next to the model in memory: looking at the models there are, and downloading another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from glmtui import host
from glmtui.engine import device as devices
from glmtui.engine.device import Device
from glmtui.errors import BadValueError, NotFoundError, StorageError
from glmtui.hub import cache as hub_cache
from glmtui.hub import client as hub
from glmtui.hub import download, inventory
from glmtui.protocol.cancellation import run_cancellable
from glmtui.protocol.engine import Stream
from glmtui.protocol.events import Downloaded, DownloadProgress, ModelList
from glmtui.protocol.models import ModelEntry
from glmtui.protocol.phrases import _
from glmtui.protocol.requests import Download, InventoryRequest, RemoveModel
from glmtui.text.quoting import reason_of


def handle(
    request: InventoryRequest, stream: Stream, more: Iterable[ModelEntry] = ()
) -> Downloaded | ModelList:
    """Do what `request` asks; return its last event. A download tells of its progress in `stream`.

    Args:
        more: what the server of the model in use has; the list names it too.

    Raises:
        UserError, OperationCancelled: as the functions of `glmtui.hub.inventory` and `glmtui.hub.download`.
    """
    if isinstance(request, Download):
        files = run_cancellable(lambda: hub.list_files(request.source), stream.token)
        path = download.fetch(files, lambda progress: stream.put(DownloadProgress(progress)), stream.token)
        return Downloaded(request.source, str(path))
    if isinstance(request, RemoveModel):
        remove(request.entry)
    elif request.add is not None:
        inventory.add_folder(request.add)
    found = list_models(request.device)
    return replace(found, entries=(*more, *found.entries))


def list_models(device: str = "auto") -> ModelList:
    """List the models with what fits the device that they would be loaded on."""
    place = present_device(device)
    return inventory.list_models(place.kind, place.name, place.memory.free)


def present_device(kind: str = "auto") -> Device:
    """Return the device that a model would be loaded on; imports torch only where there may be a GPU."""
    if kind == "cpu" or (kind == "auto" and not host.may_have_accelerator()):
        return devices.probe("cpu")
    return devices.choose(kind)


def remove(entry: ModelEntry) -> int:
    """Delete a model from the hub cache, finished or not; return the bytes freed. An added folder is only
    forgotten.

    Raises:
        UserError: it is built in, or cannot be deleted.
    """
    if entry.place == "builtin":
        raise BadValueError(_("nano comes with glmtui and stays."))
    if entry.place == "folder":
        inventory.forget_folder(entry.path)
        return 0
    try:
        return hub_cache.remove(entry.hub_id)
    except FileNotFoundError as error:
        raise NotFoundError(_("{name} is not on this machine.").format(name=entry.name)) from error
    except OSError as error:
        raise StorageError(
            _("{path} cannot be deleted: {error}").format(path=error.filename, error=reason_of(error))
        ) from error
