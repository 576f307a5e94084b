"""``glmtui evaluate``: how near a model's answers are to those that were expected."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from glmtui import paths, streams
from glmtui.cli.options import add_model_options, add_setting, load_settings, positive
from glmtui.errors import BadFileError, StorageError, TooLongError, UsageError
from glmtui.i18n import _, tell
from glmtui.protocol import phrases
from glmtui.text.columns import table
from glmtui.text.quoting import reason_of

if TYPE_CHECKING:
    from glmtui.engine.chat_model import ChatModel
    from glmtui.protocol.models import LocalModel
    from glmtui.protocol.sampling import Sampling
    from glmtui.training.evaluation import Evaluation, Prediction
    from glmtui.training.metrics import Scores
    from glmtui.training.rows import Row, Skipped

SAMPLING_OPTIONS = ("top_p", "top_k", "repetition_penalty", "seed")


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Ask a model questions whose answers are known, and score what it says: BLEU-4, ROUGE-1, -2 and "
        "-L as the published evaluation has them, and the perplexity of the known answers. It takes the "
        "likeliest words unless a --temperature is given."
    )
    add_data_options(parser)
    parser.add_argument(
        "--predictions", metavar="FILE", help=_("write each question with both answers to this new file")
    )
    parser.add_argument(
        "--perplexity-only", action="store_true", help=_("leave the questions unanswered: far quicker")
    )
    parser.add_argument("--json", action="store_true", help=_("print JSON"))
    add_model_options(parser)
    group = parser.add_argument_group(_("generation"))
    add_setting(group, "generation.temperature")
    for name in SAMPLING_OPTIONS:
        add_setting(group, f"generation.{name}")


def add_data_options(parser: ArgumentParser) -> None:
    """Add what says which data are read, and how; for every command that reads training data."""
    group = parser.add_argument_group(_("data"))
    group.add_argument(
        "--data",
        metavar="FILE|FOLDER",
        nargs="+",
        required=True,
        help=_(
            "questions with answers: .json, .jsonl or .csv in any usual format, or conversations of glmtui"
        ),
    )
    for name in ("prompt", "response", "history"):
        group.add_argument(
            f"--{name}-column", metavar=_("NAME"), help=_("the column of the data that has it")
        )
    group.add_argument(
        "--max-source-length",
        metavar="N",
        type=positive,
        default=512,
        help=_("tokens of a question with what was said before (default: 512)"),
    )
    group.add_argument(
        "--max-target-length",
        metavar="N",
        type=positive,
        default=256,
        help=_("tokens of an answer (default: 256)"),
    )
    group.add_argument("--max-rows", metavar="N", type=positive, help=_("use only the first N rows"))


def given_columns(args: Namespace) -> dict[str, str]:
    """Return what the columns of the data are called, as far as that was said."""
    named = {name: getattr(args, f"{name}_column") for name in ("prompt", "response", "history")}
    return {name: column for name, column in named.items() if column}


def run(args: Namespace) -> int:
    from glmtui.protocol.models import LocalModel
    from glmtui.training.rows import Columns, read_rows

    settings = load_settings(args)
    spec = settings.model_spec()
    if not isinstance(spec, LocalModel):
        raise UsageError(_("glmtui evaluate runs models on this machine: leave out the server's address"))
    columns = given_columns(args)
    found = read_rows(map(paths.typed, args.data), Columns(**columns) if columns else None)
    _name_skipped(found.skipped)
    if not args.perplexity_only:
        from glmtui.training import metrics

        metrics.check_installed()  # before a model is read
    sampling = settings.sampling()
    if not hasattr(args, "generation.temperature"):
        sampling = replace(sampling, temperature=0.0)
    with _new_file(args.predictions) as file:
        model = _load(spec)
        from glmtui.training.evaluation import summary

        predictions = []
        for each in _predictions(args, model, found.rows[: args.max_rows], sampling):
            predictions.append(each)
            if file is not None:
                file.write(json.dumps(_described(each), ensure_ascii=False) + "\n")
                file.flush()
    if not predictions:
        raise BadFileError(phrases._("The data has no rows that can be learned."))
    _print(summary(predictions), as_json=args.json)
    return 0


def _name_skipped(skipped: Sequence[Skipped]) -> None:
    from glmtui.training.data import NAMED

    errors = streams.errors()
    for each in skipped[:NAMED]:
        errors.line(_("{path}: {error}").format(path=each.origin, error=tell(each.reason)))
    if len(skipped) > NAMED:
        errors.line(_("… and {n} more").format(n=f"{len(skipped) - NAMED:,}"))


def _load(spec: LocalModel) -> ChatModel:
    from glmtui.cli.models import resolve

    resolve(spec.source)
    status = streams.StatusLine(streams.errors())
    status.step(_("Loading the model …"))
    try:
        from glmtui.engine import loader

        return loader.load(spec)
    finally:
        status.clear()


def _predictions(
    args: Namespace, model: ChatModel, rows: Sequence[Row], sampling: Sampling
) -> Iterator[Prediction]:
    """Yield what the model says to each row; one that is too long for it is named."""
    from glmtui.training.evaluation import predict

    status = streams.StatusLine(streams.errors())
    limits = {"max_source": args.max_source_length, "max_target": args.max_target_length}
    try:
        for number, row in enumerate(rows, 1):
            status.show(f"{number} / {len(rows)}")
            try:
                yield predict(model, row, sampling, **limits, answers=not args.perplexity_only)
            except TooLongError as error:
                status.note(_("{path}: {error}").format(path=row.origin, error=tell(error)))
    finally:
        status.clear()


@contextmanager
def _new_file(name: str | None) -> Iterator[TextIO | None]:
    """Open a file that is not there yet, line by line for what comes; None where none is wanted."""
    if name is None:
        yield None
        return
    path: Path = paths.typed(name)
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise StorageError(
            phrases._("{path} is there already. Choose another name.").format(path=path)
        ) from error
    except OSError as error:
        raise StorageError(
            phrases._("{path} cannot be written: {error}").format(path=path, error=reason_of(error))
        ) from error
    with file:
        yield file


def _described(prediction: Prediction) -> dict[str, object]:
    """Return a line of the file; ``labels`` and ``predict`` are the published names."""
    row = prediction.row
    return {
        "prompt": row.prompt,
        "history": [list(pair) for pair in row.history or ()],
        "labels": row.response,
        "predict": prediction.answer,
        "loss": prediction.loss,
        **_named(prediction.scores),
        "origin": row.origin,
    }


def _named(scores: Scores | None) -> dict[str, float]:
    """Return scores under their published names."""
    return {} if scores is None else {key.replace("_", "-"): value for key, value in asdict(scores).items()}


def _print(found: Evaluation, *, as_json: bool) -> None:
    values = {"rows": found.rows, **_named(found.scores), "perplexity": found.perplexity}
    if as_json:
        streams.output().json(values)
        return
    titles = {
        "rows": _("rows"),
        "bleu-4": "BLEU-4",
        "rouge-1": "ROUGE-1",
        "rouge-2": "ROUGE-2",
        "rouge-l": "ROUGE-L",
        "perplexity": _("perplexity"),
    }
    shown = [
        (titles[name], f"{value:,}" if isinstance(value, int) else f"{value:,.2f}")
        for name, value in values.items()
    ]
    for line in table(shown, right=(1,)):
        streams.output().line(line)
