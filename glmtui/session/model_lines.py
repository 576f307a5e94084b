"""The list of models as lines of text, as ``glmtui models`` and the line mode print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.i18n import _, tell
from glmtui.text.clean import one_line
from glmtui.text.columns import table, widest
from glmtui.text.units import parameters, size

if TYPE_CHECKING:
    from glmtui.protocol.events import ModelList
    from glmtui.protocol.models import ModelEntry


def model_lines(found: ModelList, width: int = 1000) -> list[str]:
    """Lay the list out for people, in `width` columns where it can be."""
    servers = [entry for entry in found.entries if entry.place == "server"]
    here = [entry for entry in found.entries if entry.place not in ("absent", "server")]
    absent = [entry for entry in found.entries if entry.place == "absent"]
    head = (
        _("model"), _("parameters"), _("format"), _("size"), _("memory: as it is"), _("8 bits"), _("4 bits"),
    )  # fmt: skip
    laid = _laid([head, *(_row(entry, found.free_memory) for entry in (*here, *absent))], width)
    result = [laid[0], _("On this machine"), *laid[1 : 1 + len(here)]]
    if servers:
        result = [_("On servers"), *(f"  {entry.name}  {entry.path}" for entry in servers), "", *result]
    result += [f"  {one_line(entry.name)}: {tell(entry.problem)}" for entry in here if entry.problem]
    result += ["", _("To download: glmtui models download NAME"), *laid[1 + len(here) :], ""]
    if found_best := next((entry for entry in found.entries if entry.recommended), None):
        result.append(recommendation(found_best))
    if any(not entry.chats for entry in found.entries):
        result.append(_("(base): a base model; it goes on with a text and does not answer."))
    result.append(
        _("✓ fits into the {free} of memory that are free on {device}; {disk} are free in {cache}.").format(
            free=size(found.free_memory),
            device=found.device_name,
            disk=size(found.free_disk),
            cache=found.cache,
        )
    )
    for licence in dict.fromkeys(entry.licence for entry in found.entries if entry.hub_id and entry.licence):
        names = [entry.name for entry in found.entries if entry.hub_id and entry.licence == licence]
        result.append(
            _("{licence} ({first} … {last})").format(licence=tell(licence), first=names[0], last=names[-1])
        )
    return result


def recommendation(entry: ModelEntry) -> str:
    """Say that a model is the one for this machine, and how to load it."""
    assert entry.recommended is not None
    needed = size(dict(entry.needs)[entry.recommended])
    if entry.recommended == "none":
        return _("{name} is recommended for this machine: it takes {size} of memory.").format(
            name=entry.name, size=needed
        )
    return _(
        "{name} is recommended for this machine, with --quant {quant}: it takes {size} of memory."
    ).format(name=entry.name, quant=entry.recommended, size=needed)


def entry_name(entry: ModelEntry) -> str:
    """Return what the list calls a model: its name, and whether it is one that does not answer."""
    return entry.name if entry.chats else f"{entry.name} {_('(base)')}"


def _laid(rows: list[tuple[str, ...]], width: int) -> list[str]:
    """Return the lines of a table; where these are too long, without the format, then without parameters."""
    lines = table(rows, right=(1, 3, 4, 5, 6))
    rows[0] = (*rows[0][:4], _("memory"), *rows[0][5:])
    for kept in ((0, 1, 3, 4, 5, 6), (0, 3, 4, 5, 6)):
        if widest(lines) > width:
            lines = table([[row[at] for at in kept] for row in rows], right=range(1, 6))
    return lines


def _row(entry: ModelEntry, free: int) -> tuple[str, ...]:
    needs = dict(entry.needs)
    as_it_is = needs.pop(entry.quant, None)

    def memory(bytes_needed: int | None) -> str:
        if bytes_needed is None:
            return "–"
        return f"{size(bytes_needed)} {'✓' if bytes_needed <= free else '✗'}"

    files = size(entry.file_bytes) if entry.file_bytes else "–"
    if entry.place == "absent" and entry.part_bytes:
        files = _("{done} of {size}").format(done=size(entry.part_bytes), size=files)
    return (
        f"{'★' if entry.recommended else ' '} {one_line(entry_name(entry))}",
        parameters(entry.parameters) or "–",
        entry.format,
        files,
        memory(as_it_is),
        memory(needs.get("8")),
        memory(needs.get("4")),
    )
