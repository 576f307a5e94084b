"""``glmtui quantize``: make a smaller copy of a model, or look after the cache of those made at loading."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from glmtui import paths, streams
from glmtui.cli.options import named_model
from glmtui.errors import UsageError, UserError
from glmtui.i18n import _, tell
from glmtui.signals import ends_in_order
from glmtui.text.quoting import reason_of
from glmtui.text.units import size

if TYPE_CHECKING:
    from glmtui.quant.formats import Bits


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Write a copy of a model with 4 or 8 bits per weight, which this program loads at once. "
        "(Loading with --quant does the same into the cache.)"
    )
    parser.add_argument("source", metavar="SRC", nargs="?", help=_("a folder, a hub id or a short name"))
    parser.add_argument("target", metavar="DST", nargs="?", help=_("the folder to make"))
    parser.add_argument("--quant", choices=("8", "4"), default="4", help=_("bits per weight (default: 4)"))
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--cache", action="store_true", help=_("list the quantised models in the cache"))
    cache.add_argument(
        "--clear-cache", action="store_true", help=_("delete the quantised models in the cache")
    )


def run(args: Namespace) -> int:
    if args.cache or args.clear_cache:
        return _look_after_cache(clear=args.clear_cache)
    if args.source is None or args.target is None:
        raise UsageError(_("glmtui quantize needs the model's folder and the folder to make"))
    target = paths.typed(args.target)
    if target.exists():
        raise UserError(_("{path} exists already. Give a folder that does not.").format(path=target))
    from glmtui.hub import catalog

    folder = catalog.resolve(named_model(args.source))
    if folder.quant not in ("none", args.quant):
        raise UserError(
            _("{path} has {stored} bits already and cannot be changed to {wanted}.").format(
                path=folder.path, stored=folder.quant, wanted=args.quant
            )
        )
    from glmtui.quant import cache

    bits: Bits = 8 if args.quant == "8" else 4
    needed, free = cache.least_bytes(folder, bits), cache.free_bytes(target)
    if needed > free:
        raise UserError(
            _(
                "{path} would take {needed}, and {free} are free there. Free some, or choose another place."
            ).format(path=target, needed=size(needed), free=size(free))
        )
    total, written, progress = folder.file_bytes, 0, streams.StatusLine(streams.errors())

    def done(count: int) -> None:
        nonlocal written
        written += count
        progress.show(f"{100 * written // total} %")

    try:
        with ends_in_order():  # what is half written is removed
            cache.write_folder(folder, bits, target, done)
    except OSError as error:
        raise UserError(
            _("{path} cannot be written: {error}").format(path=target, error=tell(reason_of(error)))
        ) from error
    finally:
        progress.clear()
    nbytes = sum(file.stat().st_size for file in target.iterdir())
    made = _("{path}: {size}, from {before}")
    streams.output().line(made.format(path=target, size=size(nbytes), before=size(total)))
    return 0


def _look_after_cache(*, clear: bool) -> int:
    from glmtui.quant import cache

    say = streams.output().line
    if clear:
        say(_("{size} were freed.").format(size=size(cache.clear_cache())))
        return 0
    entries = cache.list_cache()
    for entry in entries:
        say(f"{size(entry.nbytes):>8}  int{entry.bits}  {entry.source}")
    total = sum(entry.nbytes for entry in entries)
    say(_("{size} in {path}").format(size=size(total), path=cache.cache_folder()))
    return 0
