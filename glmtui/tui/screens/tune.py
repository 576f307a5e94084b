"""Teaching a model: what is chosen of a run, and how it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.errors import UserError
from glmtui.i18n import N_, _, tell
from glmtui.protocol.phrases import Phrase
from glmtui.session import keys
from glmtui.text.clean import one_line
from glmtui.text.columns import cell, widest
from glmtui.training.record import RAW, SMOOTHED, VALIDATION, RunRecord, estimate_lines
from glmtui.tui.bindings import bindings
from glmtui.tui.screens.dialog import Dialog
from glmtui.tui.transcript.prose import Prose

if TYPE_CHECKING:
    from glmtui.session.tuning import Tuning
    from glmtui.settings.schema import Setting, Value
    from glmtui.training.data import DataReport
    from glmtui.training.progress import Sample
    from glmtui.tui.session_app import SessionApp

REDRAW_SECONDS = 0.5
UNSET = {
    "data": N_("none yet"),
    "out": N_("a folder of its own"),
    "quant": N_("as it is loaded"),
    "batch": N_("as suits the model"),
    "accumulate": N_("as suits the model"),
    "steps": N_("as the epochs make"),
    "learning_rate": N_("usual for the method"),
    "start_from": N_("nothing"),
    "prompt_column": N_("as usual"),
    "response_column": N_("as usual"),
    "history_column": N_("as usual"),
}
"""What is shown for no value."""
STYLES = {RAW: "$text-muted", SMOOTHED: "bold $text-primary", VALIDATION: "$text-warning"}
LEGEND = ((RAW, "⠂", N_("loss")), (SMOOTHED, "⠒", N_("smoothed")), (VALIDATION, "◆", N_("validation")))


class Choices(OptionList):
    """What is chosen of the next run; what keys do here is an action of the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("tune")]


class Pane(VerticalScroll, can_focus=True):
    """Something longer to read: what is in the data, or how the run goes."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("tune")]


class LossPlot(Widget):
    """The loss over the steps, as large as there is room."""

    record: RunRecord | None = None

    def render(self) -> Content:
        width, height = self.content_size
        rows = self.record.plot(width, height) if self.record is not None else []
        return Content("\n").join(
            Content.assemble(
                *(
                    (text, STYLES.get(curve, "$text-muted") if curve is not None else "$text-muted")
                    for text, curve in row
                )
            )
            for row in rows
        )


class TuneScreen(Dialog[None]):
    """Two views: what is chosen of the next run, and the run that is going on or was last."""

    app: SessionApp

    def __init__(self) -> None:
        super().__init__(tall=True)
        self._checking = False
        self._problem = ""
        self._at = 0
        """The row that is highlighted."""

    def body(self) -> Iterable[Widget]:
        yield Choices(id="tune-choices", markup=False)
        with Pane(id="tune-details"):
            yield Prose(id="tune-report")
        with Pane(id="tune-run"):
            yield Prose(id="tune-figures")
            yield Static(self._legend(), id="tune-legend", markup=False)
            yield LossPlot(id="tune-plot")
            yield Prose(id="tune-samples")

    def on_mount(self) -> None:
        self.set_interval(REDRAW_SECONDS, self._draw_run)
        name = one_line(self.app.settings.model_spec().name)
        self.query_one(".dialog-title", Static).update(_("Teach {name}").format(name=name))
        self._fill()
        self._view(run=self.tuning.record is not None)

    @property
    def tuning(self) -> Tuning:
        return self.app.session.tuning

    @property
    def list(self) -> Choices:
        return self.query_one(Choices)

    @property
    def run(self) -> Pane:
        return self.query_one("#tune-run", Pane)

    @property
    def chosen(self) -> Setting | None:
        at, choices = self.list.highlighted, self.tuning.choices
        return choices[at] if at is not None and at < len(choices) else None

    # --- what a person does ---

    def action_change(self) -> None:
        if self.list.display and (choice := self.chosen) is not None:
            self.app.do(self._change(choice))

    async def _change(self, choice: Setting) -> None:
        value = self.tuning[choice.name]
        if choice.kind == "bool":
            typed: str | None = "false" if value else "true"
        elif choice.choices:
            given = [*(["default"] if choice.nullable else []), *choice.choices]
            shown = [_shown(choice, None if each == "default" else each) for each in given]
            at = await self.app.choose(_(choice.title), shown)
            typed = None if at is None else given[at]
        else:
            typed = await self.app.ask(_(choice.title), "" if value is None else str(value))
        if typed is None:
            return
        self._problem = ""
        try:
            self.tuning.choose(choice.name, typed)
        except UserError as error:
            self._problem = tell(error)
        self._fill()

    def action_check(self) -> None:
        if not self._checking:
            self._view(run=False)
            self.app.do(self._check())

    async def _check(self) -> None:
        self._checking, self._problem = True, ""
        self._draw_details()
        try:
            await asyncio.to_thread(self.tuning.check)
        except UserError as error:
            self._problem = tell(error)
        finally:
            self._checking = False
        if self.is_mounted:
            self._draw_details()

    def action_start(self) -> None:
        self._problem = ""
        try:
            self.tuning.start()
        except UserError as error:
            self._problem = tell(error)
        self._view(run=not self._problem)

    def action_stop(self) -> None:
        if self.tuning.stop():
            self.app.say(_("The training ends after this step."))

    def action_use(self) -> None:
        """Put the result on the model and go back to the chat."""
        if (result := self.tuning.result) is not None:
            self.app.do(self.app.session.run(*result))
            self.dismiss()

    def action_view(self) -> None:
        if self.tuning.record is not None:
            self._view(run=self.list.display)

    # --- what is shown ---

    def _view(self, *, run: bool) -> None:
        self.list.display = self.query_one("#tune-details").display = not run
        self.run.display = run
        (self.run if run else self.list).focus()
        self.call_after_refresh(self._draw_run)  # its lines are as wide as the pane, which has to be laid out
        self._draw_details()

    def _draw_keys(self, *, run: bool) -> None:
        own = self.app.settings.keys
        names = [("change", _("change")), ("check", _("check the data")), ("start", _("start"))]
        names = [] if run else names
        if self.tuning.record is not None:
            names.append(("view", _("choices") if run else _("the run")))
        if self.tuning.running:
            names.append(("stop", _("stop")))
        elif self.tuning.result is not None:
            names.append(("use", _("use it")))
        names.append(("back", _("close")))
        hints = [f"{keys.shown(f'tune.{name}', own)} {text}" for name, text in names]
        self.query_one(".dialog-keys", Static).update("   ".join(hints))

    def _fill(self) -> None:
        at, choices = self.list.highlighted, self.tuning.choices
        width = widest(_(choice.title) for choice in choices)
        self.list.clear_options()
        self.list.add_options(
            Option(
                Content.assemble((cell(_(choice.title), width), "$text-primary"), "  ", self._value(choice))
            )
            for choice in choices
        )
        self.list.highlighted = min(at or 0, len(choices) - 1)
        self._draw_details()

    def _value(self, choice: Setting) -> Content:
        value = self.tuning[choice.name]
        return Content.styled(_shown(choice, value), "$text-muted" if value is None else "$text")

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_index != self._at:  # not where the list was only filled again
            self._at, self._problem = event.option_index, ""
            self._draw_details()

    def _draw_details(self) -> None:
        self.query_one("#tune-report", Prose).update(self._details())

    def _details(self) -> Content:
        if self._problem:
            return Content.styled(self._problem, "$text-error")
        if self._checking:
            return Content.styled(_("Reading the data …"), "$text-primary")
        about = Content.styled(_(self.chosen.help), "$text-muted") if self.chosen is not None else Content("")
        if (report := self.tuning.report) is None:
            return about
        return Content("\n").join([about, *_report(report)])

    def _draw_run(self) -> None:
        record = self.tuning.record
        self._draw_keys(run=self.run.display)
        if record is None or not self.run.display:
            return
        self.query_one("#tune-figures", Prose).update(self._figures(record))
        plot = self.query_one(LossPlot)
        plot.record = record
        plot.display = self.query_one("#tune-legend").display = record.step is not None
        plot.refresh()
        self.query_one("#tune-samples", Prose).update(_samples(record))

    def _figures(self, record: RunRecord) -> Content:
        lines: list[Content] = []
        if self.tuning.problem:
            lines.append(Content.styled(tell(self.tuning.problem), "$text-error"))
        elif ending := record.ending():
            lines.append(Content.styled(tell(ending), "$text-success"))
        elif beginning := record.beginning():
            lines += _said(estimate_lines(record.began.estimate)) if record.began else []
            lines.append(Content.styled(tell(beginning), "$text-primary"))
        elif record.began is not None and record.began.estimate.warning:
            lines.append(Content.styled(tell(record.began.estimate.warning), "$text-warning"))
        pairs = [
            Content.assemble((f"{tell(name)} ", "$text-muted"), value) for name, value in record.figures()
        ]
        return Content("\n").join([*lines, *_laid_out(pairs, self.run.scrollable_content_region.width)])

    def _legend(self) -> Content:
        return Content("   ").join(
            Content.assemble((mark, STYLES[curve]), " ", (_(name), "$text-muted"))
            for curve, mark, name in LEGEND
        )


def _laid_out(parts: Sequence[Content], width: int) -> Iterable[Content]:
    """Put `parts` into as few lines as hold them, each of them whole."""
    gap, line = Content("   "), Content("")
    for part in parts:
        if line and line.cell_length + gap.cell_length + part.cell_length > width:
            yield line
            line = Content("")
        line = gap.join([line, part]) if line else part
    yield line


def _shown(choice: Setting, value: Value) -> str:
    """Write a value for people."""
    if value is None:
        return _(UNSET.get(choice.name, "none"))
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return f"{value:g}" if isinstance(value, float) else one_line(str(value))


def _said(lines: Sequence[Phrase]) -> list[Content]:
    """Show an estimate: what speaks against the run stands out."""
    first, *warnings = lines
    return [Content(tell(first)), *(Content.styled(tell(line), "$text-warning") for line in warnings)]


def _report(report: DataReport) -> Iterable[Content]:
    from glmtui.training.data import report_lines

    lines = map(tell, report_lines(report))
    return [Content.styled(line, "$text-muted" if "≤" in line else "$text") for line in lines]


def _samples(record: RunRecord) -> Content:
    """Show what was answered before and after, question by question."""
    lines: list[Content] = []
    after = {sample.question: sample.answer for sample in record.after}
    for sample in record.before or record.after:
        lines += [Content(""), Content.styled(one_line(sample.question), "bold $text-primary")]
        lines += _answers(sample, after, before=bool(record.before))
    return Content("\n").join(lines)


def _answers(sample: Sample, after: dict[str, str], *, before: bool) -> Iterable[Content]:
    answers = [(_("expected"), sample.expected)]
    if before:
        answers.append((_("before"), sample.answer))
    if sample.question in after:
        answers.append((_("after"), after[sample.question]))
    width = widest(name for name, _text in answers)
    for name, text in answers:
        yield Content.assemble((f"{cell(name, width)}  ", "$text-muted"), one_line(text))
