"""``glmtui merge``: make a LoRA part of a model's weights."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from glmtui import paths, streams
from glmtui.cli.options import named_model
from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.signals import ends_in_order
from glmtui.text.quoting import reason_of
from glmtui.text.units import size


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Write a copy of a model with what a LoRA adds in its weights: for other programs, or to be "
        "quantised."
    )
    parser.add_argument("source", metavar="SRC", help=_("a folder, a hub id or a short name"))
    parser.add_argument("target", metavar="DST", help=_("the folder to make"))
    parser.add_argument("--lora", metavar="DIR", required=True, help=_("the folder of the LoRA"))


def run(args: Namespace) -> int:
    target = paths.typed(args.target)
    if target.exists():
        raise UserError(_("{path} exists already. Give a folder that does not.").format(path=target))
    from glmtui.hub import catalog

    folder = catalog.resolve(named_model(args.source))
    from glmtui.models.merging import merge

    written, progress = 0, streams.StatusLine(streams.errors())

    def done(count: int) -> None:
        nonlocal written
        written += count
        progress.show(f"{min(100 * written // folder.file_bytes, 100)} %")

    try:
        with ends_in_order():  # what is half written is removed
            merge(folder, paths.typed(args.lora), target, done)
    except OSError as error:
        raise UserError(
            _("{path} cannot be written: {error}").format(path=target, error=tell(reason_of(error)))
        ) from error
    finally:
        progress.clear()
    streams.output().line(f"{target}: {size(sum(file.stat().st_size for file in target.iterdir()))}")
    return 0
