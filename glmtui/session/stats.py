"""Figures for people: what ``/stats`` shows, and how sizes and times are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.i18n import _

if TYPE_CHECKING:
    from glmtui.session.controller import ChatController


def size(count: float) -> str:
    """Write a number of bytes as people do: ``12.5 GB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def parameters(count: int) -> str:
    """Write a number of parameters as people do: ``6.2 B``; nothing where it is not known."""
    if not count:
        return ""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def duration(seconds: float) -> str:
    """Write a time as ``m:ss``."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    return f"{minutes}:{rest:02}"


def markdown(controller: ChatController) -> str:
    """Return a table of what is known about the model, the memory and the conversation."""
    import psutil

    status, conversation = controller.status, controller.conversation
    rows: list[tuple[str, str]] = []
    if info := status.info:
        rows += [
            (_("Model"), f"{info.title} ({info.architecture}, {parameters(info.parameters)})"),
            (_("Device"), f"{info.device_name} ({info.device}, {info.dtype})"),
            (_("Quantisation"), _("none") if info.quant == "none" else f"INT{info.quant}"),
            (_("Weights in memory"), size(info.memory_bytes)),
        ]
    else:
        rows.append((_("Model"), _("none")))
    rows.append((_("Memory of this program"), size(psutil.Process().memory_info().rss)))
    rows.append((_("Memory free"), size(psutil.virtual_memory().available)))
    if status.limit:
        rows.append(
            (
                _("Context"),
                _("{used} of {limit} tokens").format(used=f"{status.used:,}", limit=f"{status.limit:,}"),
            )
        )
    if status.tokens_per_second:
        rows.append((_("Speed"), _("{rate:.1f} tokens/s").format(rate=status.tokens_per_second)))
    here, kept = len(conversation.branch()), len(conversation.messages)
    messages = _("{here}, with other versions {all}").format(here=f"{here:,}", all=f"{kept:,}")
    rows.append((_("Messages"), messages if kept > here else f"{here:,}"))
    if conversation.path:
        rows.append((_("File"), f"`{conversation.path}`"))
    head = f"| {_('What')} | {_('Figure')} |\n| --- | --- |"
    return head + "\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)
