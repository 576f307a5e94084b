"""What runs beside the model in memory: looking at the models there are, and downloading another."""

from __future__ import annotations

import queue
from dataclasses import replace

from glmtui import host
from glmtui.engine import device as devices
from glmtui.engine.device import Device
from glmtui.errors import UserError
from glmtui.hub import cache as hub_cache
from glmtui.hub import client as hub
from glmtui.hub import download
from glmtui.hub import inventory as shelf
from glmtui.protocol.cancellation import CancelToken, run_cancellable
from glmtui.protocol.events import Downloaded, DownloadProgress, Event, ModelList
from glmtui.protocol.models import FileProgress, ModelEntry
from glmtui.protocol.phrases import _
from glmtui.protocol.requests import Download, InventoryRequest, RemoveModel


def handle(request: InventoryRequest, events: queue.SimpleQueue[Event], stop: CancelToken) -> Event:
    """Do what `request` asks; return its last event. A download tells of its progress by `events`.

    Raises:
        UserError, Stopped: as the functions of `glmtui.hub.inventory` and `glmtui.hub.download`.
    """
    if isinstance(request, Download):

        def report(files: tuple[FileProgress, ...]) -> None:
            events.put(DownloadProgress(request.request_id, files))

        listing = run_cancellable(lambda: hub.list_files(request.source), stop)
        path = download.fetch(listing, report, stop)
        return Downloaded(request.request_id, request.source, str(path))
    if isinstance(request, RemoveModel):
        remove(request.entry)
    elif request.add is not None:
        shelf.add_folder(request.add)
    return replace(list_models(request.device), request_id=request.request_id)


def list_models(device: str = "auto") -> ModelList:
    """List the models with what fits the device that they would be loaded on."""
    place = present_device(device)
    return shelf.list_models(place.kind, place.name, place.memory.free)


def present_device(wanted: str = "auto") -> Device:
    """Return the device that a model would be loaded on; imports torch only where there may be a GPU."""
    if wanted == "cpu" or (wanted == "auto" and not host.may_have_accelerator()):
        return devices.probe("cpu")
    return devices.choose(wanted)


def remove(entry: ModelEntry) -> int:
    """Delete a model from the hub cache, finished or not; return the bytes freed. An added folder is only
    forgotten.

    Raises:
        UserError: it is built in, or cannot be deleted.
    """
    if entry.place == "builtin":
        raise UserError(_("nano comes with glmtui and stays."))
    if entry.place == "folder":
        shelf.forget_folder(entry.path)
        return 0
    try:
        return hub_cache.remove(entry.hub_id)
    except FileNotFoundError as error:
        raise UserError(_("{name} is not on this machine.").format(name=entry.name)) from error
    except OSError as error:
        raise UserError(
            _("{path} cannot be deleted: {error}").format(path=error.filename, error=error.strerror)
        ) from error
