"""The schema of the settings: what there is, of what kind, within which limits, explained in a line each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from glmtui.errors import BadValueError
from glmtui.i18n import N_
from glmtui.protocol.phrases import Phrase, _, listing
from glmtui.protocol.sampling import Sampling

Value = bool | int | float | str | None
Kind = Literal["bool", "int", "float", "choice", "text"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the settings pane, one key of the file."""

    key: str
    """``section.name``"""
    kind: Kind
    default: Value
    title: str
    """English msgid; show it through `glmtui.i18n._`."""
    help: str
    """One line, an English msgid as well."""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    """None is a value too (the key is then left out of the file; where it cannot be, it is an empty text).
    Such a setting's default is None."""
    metavar: str = ""
    """What stands for the value in the help of its option on the command line."""
    secret: bool = False
    """Whether it is for nobody who looks over the person's shoulder."""

    @property
    def section(self) -> str:
        """The table of the file that holds the key."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """The key inside its table."""
        return self.key.partition(".")[2]

    @property
    def per_conversation(self) -> bool:
        """Whether a conversation may have a value of its own."""
        return self.section in ("generation", "docs") and self.key != "docs.embedding"

    def shown(self, text: str) -> str:
        """Return a value as it may be seen: of a secret one only that there is one."""
        return "••••" if self.secret and text else text

    def check(self, value: object) -> Value:
        """Return `value` in the setting's own type, or raise a `UserError` that says what is allowed."""
        if self.nullable and value in (None, ""):
            return None
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
        elif self.kind in ("int", "float"):
            number = self._number(value)
            if number is not None:
                return number
        elif self.kind == "choice":
            if not isinstance(value, bool) and str(value) in self.choices:  # quant = 4 is as good as "4"
                return str(value)
        elif isinstance(value, str):
            return value
        raise BadValueError(
            _("{key} cannot be {value!r}: {allowed}").format(
                key=self.key, value=_short(value), allowed=self.allowed()
            )
        )

    def parse(self, text: str) -> Value:
        """Return the value a person typed as `text`; a `UserError` says what is allowed instead."""
        stripped = text.strip()
        if self.nullable and stripped.lower() in ("", "auto", "default"):
            return None
        if self.kind == "bool":
            words = {"true": True, "on": True, "yes": True, "1": True, "开": True, "是": True}
            words |= {"false": False, "off": False, "no": False, "0": False, "关": False, "否": False}
            return self.check(words.get(stripped.lower(), stripped))
        if self.kind in ("int", "float"):
            try:
                return self.check(int(stripped) if self.kind == "int" else float(stripped))
            except ValueError:
                return self.check(stripped)
        return self.check(stripped if self.kind == "choice" else text)

    def allowed(self) -> Phrase:
        """What may be written here, in a few words."""
        if self.kind == "bool":
            return _("true or false")
        if self.kind == "choice":
            return _("one of {choices}").format(choices=listing(self.choices))
        if self.kind == "text":
            return _("text in quotes")
        what = _("a whole number") if self.kind == "int" else _("a number")
        if self.minimum is not None and self.maximum is not None:
            low, high = _figure(self.minimum), _figure(self.maximum)
            return _("{what} from {minimum} to {maximum}").format(what=what, minimum=low, maximum=high)
        if self.minimum is not None:
            return _("{what}, {minimum} or more").format(what=what, minimum=_figure(self.minimum))
        return what

    def _number(self, value: object) -> int | float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if self.minimum is not None and value < self.minimum:
            return None
        if self.maximum is not None and value > self.maximum:
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        if self.kind == "float":
            return number
        return int(value) if value == int(value) else None


def _short(value: object) -> object:
    return value if len(str(value)) <= 100 else str(value)[:100] + "…"


def _figure(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:g}"


_SAMPLING = Sampling()

ADAPTERS = "generation.adapters"
"""Whether what was trained is used: on and off per conversation."""

# fmt: off
SCHEMA: tuple[Setting, ...] = (
    Setting(
        "ui.language", "choice", "auto", N_("Language"),
        N_("The language of the interface; auto follows the system."), choices=("auto", "en", "zh_CN"),
    ),
    Setting(
        "ui.theme", "text", "glmtui-dark", N_("Theme"),
        N_("The name of a colour theme: one of glmtui's or your own in the themes folder."),
    ),
    Setting(
        "ui.send_key", "choice", "enter", N_("Send with"),
        N_("The key that sends; the other one of the two, and always Ctrl+J, begins a new line."),
        choices=("enter", "ctrl+enter"),
    ),
    Setting("ui.history_pane", "bool", True, N_("History pane"), N_("Show the conversations on the left.")),
    Setting("ui.settings_pane", "bool", False, N_("Settings pane"), N_("Show the settings on the right.")),
    Setting(
        "ui.mouse", "bool", True, N_("Mouse"),
        N_("Off leaves the mouse to the terminal, for its own selecting and copying (from the next start)."),
    ),
    Setting(
        "ui.kitty_keys", "bool", True, N_("Extended keys"),
        N_("Turn off if your terminal loses Chinese input (from the next start)."),
    ),
    Setting(
        "ui.plain_color", "bool", False, N_("Colour in --plain"),
        N_("Let the line mode colour who speaks, where the terminal can and NO_COLOR is not set."),
    ),
    Setting(
        "ui.pictures", "choice", "auto", N_("Pictures"),
        N_("How pictures are shown: auto is as sharp as the terminal can, text by their names alone."),
        choices=("auto", "kitty", "sixel", "blocks", "text"),
    ),
    Setting(
        "ui.notify", "choice", "bell", N_("When an answer is done"),
        N_("What happens when a long answer ends while you look elsewhere."),
        choices=("off", "bell", "system"),
    ),
    Setting(
        "ui.save_asked", "bool", True, N_("Save asked questions"),
        N_("Conversations of `glmtui ask` are saved with the others, so that --continue can continue them."),
    ),
    Setting(
        "ui.read_ahead", "bool", True, N_("Read while typing"),
        N_("Let the model read what you write whenever you pause, so that its answer begins sooner."),
    ),
    Setting(
        "model.source", "text", None, N_("Model"),
        N_("A folder or a name on Hugging Face; empty is the small built-in model."), nullable=True,
    ),
    Setting(
        "model.device", "choice", "auto", N_("Device"),
        N_("Where the model runs; auto takes the fastest that has room."),
        choices=("auto", "cuda", "mps", "cpu"),
    ),
    Setting(
        "model.gpus", "text", None, N_("GPUs"),
        N_("How many GPUs to spread the model over, or a JSON file that says what goes where; else one."),
        nullable=True, metavar="N",
    ),
    Setting(
        "model.quant", "choice", None, N_("Quantisation"),
        N_("Bits per weight: 4 and 8 need less memory; by default what the files have."),
        choices=("none", "8", "4"), nullable=True,
    ),
    Setting(
        "model.threads", "int", None, N_("Threads"),
        N_("CPU threads for the model; by default the number of cores."),
        minimum=1, maximum=1024, nullable=True,
    ),
    Setting(
        "model.cache", "choice", "auto", N_("Keys and values"),
        N_("How a conversation lies in memory: int8 takes half of float; auto is int8 on the CPU."),
        choices=("auto", "float", "int8"),
    ),
    Setting(
        "model.ptuning", "text", None, N_("P-tuning"),
        N_("The folder of a P-tuning v2 checkpoint that goes on top of the model."),
        nullable=True, metavar="DIR",
    ),
    Setting(
        "model.lora", "text", None, N_("LoRA"),
        N_("The folder of a LoRA that goes on top of the model."),
        nullable=True, metavar="DIR",
    ),
    Setting(
        "generation.temperature", "float", _SAMPLING.temperature, N_("Temperature"),
        N_("Higher is more varied, lower more predictable; 0 always takes the likeliest word."),
        minimum=0, maximum=2,
    ),
    Setting(
        "generation.top_p", "float", _SAMPLING.top_p, N_("Top-p"),
        N_("Choose among the likeliest words that together have this probability; 1 is all."),
        minimum=0, maximum=1,
    ),
    Setting(
        "generation.top_k", "int", _SAMPLING.top_k, N_("Top-k"),
        N_("Choose among this many of the likeliest words; 0 is all."), minimum=0, maximum=100_000,
    ),
    Setting(
        "generation.repetition_penalty", "float", _SAMPLING.repetition_penalty, N_("Repetition penalty"),
        N_("Above 1 makes words that already occurred less likely."), minimum=0.5, maximum=2,
    ),
    Setting(
        "generation.max_length", "int", _SAMPLING.max_length, N_("Longest context"),
        N_("Conversation and answer together, in tokens, as far as the model was made for it."),
        minimum=16, maximum=1_048_576,
    ),
    Setting(
        "generation.max_new_tokens", "int", _SAMPLING.max_new_tokens, N_("Longest answer"),
        N_("The answer alone, in tokens; empty is as much as the context leaves."),
        minimum=1, maximum=1_048_576, nullable=True,
    ),
    Setting(
        "generation.min_length", "int", _SAMPLING.min_length, N_("Shortest length"),
        N_("Conversation and answer together, in tokens, before which no answer ends; VisualGLM-6B has 100."),
        minimum=0, maximum=1_048_576,
    ),
    Setting(
        "generation.seed", "int", _SAMPLING.seed, N_("Seed"),
        N_("The same seed gives the same answer again; empty draws a new one each time."),
        minimum=0, maximum=2**53, nullable=True,
    ),
    Setting(
        "generation.system_prompt", "text", "", N_("System prompt"),
        N_("Told to the model before the conversation, where the model has such a thing."),
    ),
    Setting(
        ADAPTERS, "bool", True, N_("Prefix and LoRA"),
        N_("Use the P-tuning prefix or LoRA that is on top of the model; off: answer as without."),
    ),
    Setting(
        "docs.collection", "text", None, N_("Documents"),
        N_("Answer from this collection of documents, or from a file or folder; empty: from none."),
        nullable=True, metavar="NAME|PATH",
    ),
    Setting(
        "docs.tools", "bool", True, N_("Models search themselves"),
        N_("A model that calls tools searches the documents in use, and the web if chosen, by itself."),
    ),
    Setting(
        "docs.embedding", "text", None, N_("Embedding model"),
        N_("The folder of a model such as bge-small-zh: finds in documents what is said in other words."),
        nullable=True, metavar="DIR",
    ),
    Setting(
        "web.provider", "choice", "none", N_("Web search"),
        N_("Who is asked for `/web`; none: nobody, and nothing is sent."),
        choices=("none", "searxng", "brave", "tavily", "ddgs"),
    ),
    Setting(
        "web.url", "text", "", N_("Address of SearXNG"),
        N_("Of your own instance, such as http://localhost:8888; only for searxng."),
    ),
    Setting(
        "web.key", "text", "", N_("Key for the search"),
        N_("Your access key of Brave or Tavily; kept in the settings file as it is."), secret=True,
    ),
)
# fmt: on
BY_KEY: Mapping[str, Setting] = MappingProxyType({setting.key: setting for setting in SCHEMA})


def _preset(temperature: float, top_p: float, top_k: int, repetition_penalty: float) -> Mapping[str, Value]:
    values: dict[str, Value] = {
        "generation.temperature": temperature,
        "generation.top_p": top_p,
        "generation.top_k": top_k,
        "generation.repetition_penalty": repetition_penalty,
    }
    return MappingProxyType(values)


MODELS_OWN = "balanced"
"""The preset of what the makers of the model in memory chose; before one is loaded, of ChatGLM-6B."""
SHIPPED_PRESETS: Mapping[str, Mapping[str, Value]] = MappingProxyType(
    {
        N_("balanced"): _preset(
            _SAMPLING.temperature, _SAMPLING.top_p, _SAMPLING.top_k, _SAMPLING.repetition_penalty
        ),
        N_("precise"): _preset(0.2, 0.7, 50, 1.0),
        N_("creative"): _preset(1.2, 0.9, 100, 1.05),
        N_("greedy"): _preset(0.0, 1.0, 0, 1.0),
    }
)
"""Presets that are always there, by name (an English msgid)."""
