"""What a run learns from: rows as token ids, a share of them kept apart, and what is known of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import paths
from glmtui.errors import BadFileError, TooLongError
from glmtui.models.chat_tokenizer import ChatTokenizer, load_tokenizer
from glmtui.protocol.phrases import Phrase, _, ngettext, verbatim
from glmtui.training.encoding import Encoded, encode
from glmtui.training.rows import Columns, Row, Skipped, read_rows

if TYPE_CHECKING:
    from glmtui.training.options import TuneOptions

NAMED = 10
"""Skipped rows that are named; there may be thousands."""
BAR = 30
"""Columns of the histogram's longest bar."""
_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class DataReport:
    """What there is to know before anything is trained."""

    rows: int
    """That can be learned, the validation's among them."""
    validation: int
    skipped: tuple[Skipped, ...]
    lengths: tuple[int, ...]
    """Tokens of each row, as it is learned."""
    max_source: int
    max_target: int
    lost_rounds: int
    """Rows that lose their oldest rounds, as they are longer than a prompt may be."""
    cut_prompts: int
    """Rows that lose the beginning of the question too."""
    cut_responses: int
    """Rows that lose the end of the answer."""
    repeated: int = 0
    """Rows that another one before them equals."""

    @property
    def tokens(self) -> int:
        """Of all rows together."""
        return sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Data:
    """What a run learns from."""

    train: list[Encoded]
    validation: list[Encoded]
    validation_rows: list[Row]
    """Of `validation`, to be asked and compared."""
    report: DataReport


def prepare(
    files: Iterable[Path],
    tokenizer: ChatTokenizer,
    *,
    max_source: int,
    max_target: int,
    columns: Columns | None = None,
    validation: float = 0.0,
    max_rows: int | None = None,
    seed: int = 42,
) -> Data:
    """Read and encode the data; the same options give the same rows in the same order.

    Args:
        files: or folders of files.
        tokenizer: the model's.
        max_source: the longest prompt in tokens.
        max_target: the longest answer in tokens.
        columns: as in `read_rows`.
        validation: the share of the rows that is kept apart, 0 to 1.
        max_rows: only so many of the first are used.
        seed: of the choice of the validation's.

    Raises:
        UserError: there are none that can be learned.
    """
    found = read_rows(files, columns)
    rows: list[Row] = []
    encoded: list[Encoded] = []
    skipped = list(found.skipped)
    for row in found.rows[:max_rows]:
        with _noting(row, skipped):
            encoded.append(encode(row, tokenizer, max_source, max_target))
            rows.append(row)
    if not rows:
        raise BadFileError(_("The data has no rows that can be learned."))
    kept_apart = set(split(rows, validation, seed))
    texts = [tuple(each.ids) for each in encoded]
    learned = {text for at, text in enumerate(texts) if at not in kept_apart}
    apart = [at for at in sorted(kept_apart) if texts[at] not in learned]  # what is learned tells nothing
    kept_apart = set(apart)
    report = DataReport(
        len(rows),
        len(apart),
        tuple(skipped),
        tuple(len(each.ids) for each in encoded),
        max_source,
        max_target,
        sum(each.cut.rounds > 0 for each in encoded),
        sum(each.cut.prompt for each in encoded),
        sum(each.cut.response for each in encoded),
        len(texts) - len(set(texts)),
    )
    return Data(
        [each for at, each in enumerate(encoded) if at not in kept_apart],
        [encoded[at] for at in apart],
        [rows[at] for at in apart],
        report,
    )


def prepare_for(options: TuneOptions, tokenizer: ChatTokenizer) -> Data:
    """Read and encode the data of a run; raises as `prepare` does."""
    return prepare(
        [paths.typed(path) for path in options.data],
        tokenizer,
        max_source=options.max_source_length,
        max_target=options.max_target_length,
        columns=Columns(**options.columns) if options.columns else None,
        validation=options.validation,
        max_rows=options.max_rows,
        seed=options.seed,
    )


def report_of(options: TuneOptions) -> DataReport:
    """Return what a run would learn from, without its model.

    Raises:
        UserError: there is nothing that can be learned, or the model has no tokenizer.
    """
    from glmtui.hub import catalog

    folder = catalog.resolve(options.model.source)
    return prepare_for(options, load_tokenizer(folder.path)).report


@contextmanager
def _noting(row: Row, skipped: list[Skipped]) -> Iterator[None]:
    """Around the encoding of a row: one that cannot be is skipped."""
    try:
        yield
    except TooLongError as error:
        skipped.append(Skipped(row.origin, error.phrase))


def split(rows: Sequence[Row], share: float, seed: int) -> list[int]:
    """Return the places of the rows that are kept apart, in their order.

    The rows of one conversation stay together: else what is to be foretold would have been learned. At least
    one conversation is left to learn.
    """
    groups: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(row.origin or str(at), []).append(at)
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    wanted = round(share * len(rows)) or int(share > 0)
    apart: list[int] = []
    for group in shuffled[:-1]:
        if len(apart) >= wanted:
            break
        apart += group
    return sorted(apart)


def report_lines(report: DataReport) -> Iterator[Phrase]:
    """Say what is in a report: counts, cuts, the histogram of lengths, and what was skipped."""
    rows = ngettext("{n} row to learn from", "{n} rows to learn from", report.rows).format(
        n=f"{report.rows:,}"
    )
    if report.validation:
        apart = _("{n} of them kept apart for validation").format(n=f"{report.validation:,}")
        rows = _("{rows}, {apart}").format(rows=rows, apart=apart)
    yield _("{rows}; {tokens} tokens").format(rows=rows, tokens=f"{report.tokens:,}")
    if report.repeated:
        yield ngettext(
            "{n} row is the same as another", "{n} rows are the same as others", report.repeated
        ).format(n=f"{report.repeated:,}")
    yield from _cuts(report)
    yield from histogram(report.lengths)
    if report.skipped:
        count = len(report.skipped)
        yield ngettext("{n} row is skipped:", "{n} rows are skipped:", count).format(n=f"{count:,}")
        for each in report.skipped[:NAMED]:
            yield _("{path}: {error}").format(path=each.origin, error=each.reason)
        if count > NAMED:
            yield _("… and {n} more").format(n=f"{count - NAMED:,}")


def _cuts(report: DataReport) -> Iterator[Phrase]:
    if report.lost_rounds:
        said = ngettext(
            "{n} row loses its oldest rounds: prompts have at most {most} tokens",
            "{n} rows lose their oldest rounds: prompts have at most {most} tokens",
            report.lost_rounds,
        )
        yield said.format(n=f"{report.lost_rounds:,}", most=report.max_source)
    if report.cut_prompts:
        said = ngettext(
            "{n} row loses the beginning of its question",
            "{n} rows lose the beginning of their question",
            report.cut_prompts,
        )
        yield said.format(n=f"{report.cut_prompts:,}")
    if report.cut_responses:
        said = ngettext(
            "{n} row loses the end of its answer: answers have at most {most} tokens",
            "{n} rows lose the end of their answer: answers have at most {most} tokens",
            report.cut_responses,
        )
        yield said.format(n=f"{report.cut_responses:,}", most=report.max_target)
    if not (report.lost_rounds or report.cut_prompts or report.cut_responses):
        yield _("Nothing is cut.")


def histogram(lengths: Sequence[int]) -> Iterator[Phrase]:
    """Draw how many rows have which length in tokens; each class reaches twice as far as the one before."""
    bounds = [_SHORTEST]
    while bounds[-1] < max(lengths):
        bounds.append(bounds[-1] * 2)
    counts = [0] * len(bounds)
    for length in lengths:
        counts[next(at for at, bound in enumerate(bounds) if length <= bound)] += 1
    most, width = max(counts), len(str(bounds[-1]))
    first = next(at for at, count in enumerate(counts) if count)
    yield _("Lengths in tokens:")
    for bound, count in list(zip(bounds, counts, strict=True))[first:]:
        bar = "█" * round(BAR * count / most) or ("▏" if count else "")
        yield verbatim(f"  ≤ {bound:>{width}}  {bar} {count:,}")
