"""The models there are, and the download that runs, next to whatever the model in memory does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from glmtui.protocol.engine import Engine, Stream
from glmtui.protocol.events import Cancelled, Downloaded, DownloadProgress, Failed, ModelList
from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.protocol.requests import Download, ListModels, RemoveModel
from glmtui.session.answer_task import SpeedMeter
from glmtui.settings.engines import entries
from glmtui.text.units import duration

if TYPE_CHECKING:
    from glmtui.protocol.events import Event
    from glmtui.protocol.models import FileProgress, ModelEntry
    from glmtui.session.events import Kind
    from glmtui.settings.settings import Settings


@dataclass
class RunningDownload:
    """A download on its way."""

    source: str
    stream: Stream
    files: tuple[FileProgress, ...] = ()
    """Empty until the hub has said what there is."""
    meter: SpeedMeter = field(default_factory=SpeedMeter)
    """Of bytes."""

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
    def time_left(self) -> str:
        """``m:ss`` for people; empty while it is not known."""
        return duration((self.total - self.done) / self.meter.rate) if self.meter.rate else ""

    def take(self, event: DownloadProgress) -> None:
        """Note how far it is."""
        # What an earlier attempt left says nothing of the speed.
        self.meter.add(event.done - self.done if self.files else 0)
        self.files = event.files


class ModelJobs:
    """Asks for the list, adds, removes, downloads.

    Args:
        engine: does it.
        notice: says to the person what they should know also when no list is open to show it.
        say: the same for a moment; the list has it afterwards.
        settings: say where models are loaded, and which servers there are.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        notice: Callable[[Phrase, Kind], None],
        say: Callable[[Phrase, Kind], None],
        settings: Settings,
    ) -> None:
        self._engine = engine
        self._notice = notice
        self._tell = say
        self._settings = settings
        self._asked: list[Stream] = []
        self.models: ModelList | None = None
        """As the engine listed them last."""
        self.download: RunningDownload | None = None
        self.message: tuple[Phrase, Kind] = (NOTHING, "info")
        """What was said last about the list."""

    @property
    def asking(self) -> bool:
        """Whether the list is being made."""
        return bool(self._asked)

    def refresh(self) -> None:
        """Look again."""
        self._ask(ListModels(device=self._device))

    def add(self, folder: str) -> None:
        """Put a person's folder on the list."""
        self._say(NOTHING)
        self._ask(ListModels(add=folder, device=self._device))

    def remove(self, entry: ModelEntry) -> None:
        """Delete from the cache, or take a folder off the list."""
        self._say(NOTHING)
        self._ask(RemoveModel(entry, self._device))

    def start(self, source: str) -> None:
        """Begin a download; one at a time."""
        if self.download is not None:
            name = self.download.source
            self._say(_("{name} is being downloaded; it can go on when that is done.").format(name=name))
            return
        self.download = RunningDownload(source, self._engine().submit(Download(source)))
        self._say(NOTHING)

    def cancel(self) -> bool:
        """Give up the download; return whether there was one. What has come is kept."""
        if self.download is not None:
            self.download.stream.cancel()
        return self.download is not None

    def poll(self) -> bool:
        """Take in what came; return whether there was something."""
        found = False
        for stream in list(self._asked):
            for event in stream.drain():
                found = True
                if isinstance(event, ModelList):
                    named = entries(self._settings.engines)
                    self.models = replace(event, entries=(*named, *event.entries))
                elif isinstance(event, Failed):
                    self._say(event.phrase, "error")
            if stream.ended:
                self._asked.remove(stream)
        if self.download is not None:
            for event in self.download.stream.drain():
                found = True
                self._take(self.download, event)
        return found

    def _take(self, download: RunningDownload, event: Event) -> None:
        if isinstance(event, DownloadProgress):
            download.take(event)
            return
        self.download = None
        if isinstance(event, Downloaded):
            said = _("{name} is here. /model {name} loads it.").format(name=download.source)
            self._say(said)
            self._notice(said, "info")
        elif isinstance(event, Cancelled):
            self._say(
                _("The download of {name} was stopped. What has come is kept for the next time.").format(
                    name=download.source
                )
            )
        elif isinstance(event, Failed):
            self._say(event.phrase, "error")
            self._tell(event.phrase, "error")
        self.refresh()

    @property
    def _device(self) -> str:
        return str(self._settings["model.device"])

    def _say(self, text: Phrase, kind: Kind = "info") -> None:
        self.message = (text, kind)

    def _ask(self, request: ListModels | RemoveModel) -> None:
        self._asked.append(self._engine().submit(request))
