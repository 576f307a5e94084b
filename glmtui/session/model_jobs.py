"""What the app knows of the models there are, and the download that runs, fed by the worker's events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from glmtui.i18n import _, tell
from glmtui.protocol.events import Cancelled, Downloaded, DownloadProgress, Event, Failed, ModelList
from glmtui.protocol.models import FileProgress, ModelEntry
from glmtui.protocol.requests import Download, InventoryRequest, ListModels, RemoveModel
from glmtui.session.model_link import ModelLink, SpeedMeter
from glmtui.session.view import Kind
from glmtui.text.units import duration


@dataclass
class RunningDownload:
    """A download on its way."""

    source: str
    request_id: int
    files: tuple[FileProgress, ...] = ()
    """Empty until the hub has said what there is."""
    meter: SpeedMeter = field(default_factory=SpeedMeter)

    @property
    def done(self) -> int:
        """Bytes here."""
        return sum(file.done for file in self.files)

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)

    @property
    def fraction(self) -> float:
        """How much of it is here."""
        return self.done / self.total if self.total else 0.0

    @property
    def speed(self) -> float | None:
        """Bytes per second over the last seconds."""
        return self.meter.rate

    @property
    def time_left(self) -> str:
        """``m:ss`` for people; empty while it cannot be told."""
        return duration((self.total - self.done) / self.speed) if self.speed else ""

    def take(self, event: DownloadProgress) -> None:
        """Note how far it is."""
        if self.files:
            self.meter.add(event.done - self.done)
        else:
            self.meter.add(0)  # what an earlier attempt left says nothing of the speed
        self.files = event.files


class ModelShelf:
    """Asks for the list, adds, removes, downloads; tells whoever shows it.

    Args:
        say: what is told to the person when no list is open to show it.
        device: where models are loaded, as in the settings.
    """

    def __init__(
        self, link: ModelLink, say: Callable[[str, Kind], None], device: Callable[[], str] = lambda: "auto"
    ) -> None:
        self._link = link
        self._say = say
        self._device = device
        self._asked: set[int] = set()
        self.models: ModelList | None = None
        """As it was told last."""
        self.download: RunningDownload | None = None
        self.message: tuple[str, Kind] = ("", "info")
        """What was said last about the list."""
        self.changed: Callable[[], None] = lambda: None
        """Called after each event; a list that is open draws itself."""

    def refresh(self) -> None:
        """Look again."""
        self._ask(ListModels(device=self._device()))

    def add(self, folder: str) -> None:
        """Put a person's folder on the list."""
        self._tell("")
        self._ask(ListModels(add=folder, device=self._device()))

    def remove(self, entry: ModelEntry) -> None:
        """Delete from the cache, or take a folder off the list."""
        self._tell("")
        self._ask(RemoveModel(entry, self._device()))

    def start(self, source: str) -> None:
        """Begin a download; one at a time."""
        if self.download is not None:
            name = self.download.source
            self._tell(_("{name} is being downloaded; it can go on when that is done.").format(name=name))
            return
        request = Download(source)
        self.download = RunningDownload(source, request.request_id)
        self._tell("")
        self._link.worker.submit(request)
        self.changed()

    def stop(self) -> bool:
        """Stop the download; return whether there was one. What has come is kept."""
        if self.download is None:
            return False
        self._link.cancel(self.download.request_id)
        return True

    def handle(self, event: Event) -> bool:
        """Take in an event; return whether it was one of the list's or the download's."""
        download = self.download
        if download is not None and event.request_id == download.request_id:
            self._handle_download(download, event)
        elif event.request_id in self._asked:
            self._asked.discard(event.request_id)
            if isinstance(event, ModelList):
                self.models = event
            elif isinstance(event, Failed):
                self._tell(tell(event.phrase), "error")
        else:
            return False
        self.changed()
        return True

    def _handle_download(self, download: RunningDownload, event: Event) -> None:
        if isinstance(event, DownloadProgress):
            download.take(event)
            return
        self.download = None
        if isinstance(event, Downloaded):
            said = _("{name} is here. /model {name} loads it.").format(name=download.source)
            self._tell(said)
            self._say(said, "info")
        elif isinstance(event, Cancelled):
            self._tell(
                _("The download of {name} was stopped. What has come is kept for the next time.").format(
                    name=download.source
                )
            )
        elif isinstance(event, Failed):
            self._tell(tell(event.phrase), "error")
            self._say(tell(event.phrase), "error")
        self.refresh()

    def _tell(self, text: str, kind: Kind = "info") -> None:
        self.message = (text, kind)

    def _ask(self, request: InventoryRequest) -> None:
        self._asked.add(request.request_id)
        self._link.worker.submit(request)
