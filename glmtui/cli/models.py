"""``glmtui models``: list the models there are, download one, remove one, add a folder."""

from __future__ import annotations

import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import paths, streams
from glmtui.cli.options import read_settings
from glmtui.errors import ModelNotHereError, UserError
from glmtui.i18n import _, tell
from glmtui.session.model_lines import model_lines
from glmtui.settings.engines import entries
from glmtui.text.units import duration, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glmtui.hub.model_dir import ModelFolder
    from glmtui.protocol.events import ModelList
    from glmtui.protocol.models import FileProgress, ModelEntry


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "List the models on this machine and those that can be downloaded, with the memory that each "
        "needs. Nothing is fetched from the network unless you say download."
    )
    parser.add_argument("--json", action="store_true", help=_("print JSON"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), title=_("actions"))
    get = actions.add_parser("download", help=_("fetch a model into the Hugging Face cache"))
    get.add_argument("name", metavar=_("NAME"), help=_("a short name or a hub id; @revision pins one"))
    get.add_argument("--revision", metavar="R", default=None, help=_("a branch, tag or commit"))
    get.add_argument("--yes", "-y", action="store_true", help=_("do not ask"))
    check = actions.add_parser(
        "check", help=_("compare a downloaded model with its checksums; delete what is damaged")
    )
    check.add_argument("name", metavar=_("NAME"), help=_("as the list shows it"))
    remove = actions.add_parser("remove", help=_("delete a model from the cache, or forget a folder"))
    remove.add_argument("name", metavar=_("NAME"), help=_("as the list shows it, or the folder"))
    remove.add_argument("--yes", "-y", action="store_true", help=_("do not ask"))
    add = actions.add_parser("add", help=_("add a folder of yours to the list"))
    add.add_argument("folder", metavar="DIR", help=_("a model, or a folder of models"))


def run(args: Namespace) -> int:
    if args.action == "download":
        source = f"{args.name}@{args.revision}" if args.revision else args.name
        return download(source, yes=args.yes)
    if args.action == "check":
        return _check(args.name)
    if args.action == "remove":
        return _remove(args.name, yes=args.yes)
    if args.action == "add":
        from glmtui.hub import inventory

        say(_("{path} is on the list now.").format(path=inventory.add_folder(args.folder)))
        return 0
    from glmtui.engine import model_jobs

    found = model_jobs.list_models(getattr(args, "model.device", "auto"))
    found = replace(found, entries=(*entries(read_settings().engines), *found.entries))
    if args.json:
        from dataclasses import asdict

        streams.output().json(asdict(found), indent=1)
    else:
        for line in model_lines(found, shutil.get_terminal_size(fallback=(1000, 24)).columns):
            say(line)
    return 0


# --- downloading ---


def resolve(source: str | None) -> ModelFolder:
    """Find a model as `glmtui.hub.catalog.resolve` does; offer to download it where it is not here.

    Raises:
        UserError: as there, also when there is nobody to ask or the offer is turned down.
    """
    from glmtui.hub import catalog

    try:
        return catalog.resolve(source)
    except ModelNotHereError as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()) or download(error.source, yes=False) != 0:
            raise
        return catalog.resolve(source)


def download(source: str, *, yes: bool) -> int:
    """Download a model, after a question where there is a person to ask."""
    from glmtui.hub import cache as hub_cache
    from glmtui.hub import catalog
    from glmtui.hub import client as hub
    from glmtui.hub import download as downloads

    catalog.hub_ids_of(source)  # a wrong name fails before the network is touched
    for old_id in catalog.hub_ids_of(source)[1:]:
        if there := hub_cache.find((old_id,), catalog.split(source)[1]):
            say(_("{source} is here already: {path}").format(source=source, path=there))
            return 0
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    listing = hub.list_files(source)
    missing = downloads.remaining(listing)
    if not missing:
        say(_("{source} is here already: {path}").format(source=source, path=downloads.fetch(listing)))
        return 0
    downloads.check_room(listing)
    if asks:
        question = _("Download {size} of {hub_id} from {server} into {folder} ({free} free)?").format(
            size=size(missing),
            hub_id=listing.hub_id,
            server=listing.endpoint,
            folder=hub_cache.folder(),
            free=size(hub_cache.free_bytes()),
        )
        if known := catalog.find(source):
            question = f"{tell(known.licence)}\n{question}"
        if not confirmed(question):
            return 1
    with Bars() as bars:
        path = downloads.fetch(listing, bars.show)
    say(_("{source} is here: {path}").format(source=source, path=path))
    return 0


class Bars:
    """A line for every file that is on its way and one for all, on a terminal; nothing elsewhere."""

    WIDTH = 24

    def __init__(self) -> None:
        self._stream = streams.errors()
        self._started: float | None = None
        self._before = 0
        self._next = 0.0
        self._lines = 0

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_error: object) -> None:
        self._draw([])

    def show(self, files: Sequence[FileProgress]) -> None:
        """Draw how far they are."""
        now = time.monotonic()
        done, total = sum(file.done for file in files), sum(file.size for file in files)
        if self._started is None:
            self._started, self._before = now, done
        if now < self._next or not self._stream.isatty():
            return
        self._next = now + 0.25
        speed = (done - self._before) / (now - self._started) if now > self._started else 0.0
        under_way = [file for file in files if 0 < file.done < file.size][:6]
        rows = [f"{self._bar(file.done, file.size)}  {file.name}" for file in under_way]
        rest = f"  {speed / 1e6:.1f} MB/s"
        if speed:
            rest += "  " + _("{time} left").format(time=duration((total - done) / speed))
        self._draw([*rows, self._bar(done, total) + rest])

    def _bar(self, done: int, total: int) -> str:
        full = self.WIDTH * done // max(total, 1)
        return (
            f"{'━' * full}{'─' * (self.WIDTH - full)} {100 * done // max(total, 1):3} %  "
            f"{done / 1e6:9.1f} / {total / 1e6:.1f} MB"
        )

    def _draw(self, rows: list[str]) -> None:
        if not self._lines and not rows:
            return
        up = f"\x1b[{self._lines}A" if self._lines else ""
        self._stream.write_safe(streams.Safe(f"{up}\r\x1b[J"))
        for row in rows:
            self._stream.line(row)
        self._lines = len(rows)


# --- checking and removing ---


def _check(name: str) -> int:
    from glmtui.engine import model_jobs
    from glmtui.hub import download as downloads

    entry = _find(name, model_jobs.list_models("cpu"))
    if not entry.hub_id:
        raise UserError(_("{name} was not downloaded, so there are no checksums.").format(name=entry.name))
    with Bars() as bars:
        damaged = downloads.check(entry.hub_id, bars.show)
    if damaged:
        raise UserError(
            _("Damaged, so deleted: {files}. Run: glmtui models download {name}").format(
                files=", ".join(damaged), name=entry.source
            )
        )
    say(_("{name} is complete and undamaged.").format(name=entry.name))
    return 0


def _remove(name: str, *, yes: bool) -> int:
    from glmtui.engine import model_jobs

    entry = _find(name, model_jobs.list_models("cpu"))
    if entry.place in ("hub", "absent"):
        from glmtui.hub import cache as hub_cache

        question = _("Delete {name} ({size}) from {folder}?").format(
            name=entry.hub_id,
            size=size(hub_cache.size_of(entry.hub_id)),
            folder=hub_cache.repository(entry.hub_id),
        )
        if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UserError(_("Deleting {name} needs --yes where nobody can be asked.").format(name=name))
        if not yes and not confirmed(question):
            return 1
    freed = model_jobs.remove(entry)
    if entry.place == "folder":
        say(_("{path} is no longer on the list; its files stay.").format(path=entry.path))
    else:
        say(_("{size} were freed.").format(size=size(freed)))
    return 0


def _find(name: str, found: ModelList) -> ModelEntry:

    path = str(paths.typed(name).absolute())
    for entry in found.entries:
        names = {entry.name.lower(), entry.hub_id.lower(), (entry.source or "").lower()}
        if (
            name.lower() in names
            or path == entry.path
            or (entry.place == "folder" and path == str(Path(entry.path).parent))
        ):
            if entry.place == "absent" and not entry.part_bytes:
                break
            return entry
    raise UserError(_("{name} is not on this machine.").format(name=name))


def confirmed(question: str) -> bool:
    """Ask a yes-or-no question on the terminal; no is the answer to Return."""
    streams.errors().write(f"{question} [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes", "j", "是", "好")


def say(text: str) -> None:
    streams.output().line(text)
