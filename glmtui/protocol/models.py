"""Which model is meant, what is known of it, and what it can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from glmtui.protocol.phrases import NOTHING, Phrase
from glmtui.protocol.sampling import DEFAULT_SAMPLING, Sampling

Quant = Literal["none", "8", "4"]
Cache = Literal["auto", "float", "int8"]
"""How keys and values lie in memory: in floating point, or with a byte a number."""
Place = Literal["builtin", "hub", "folder", "absent", "server"]
"""Where a model is: part of glmtui, in the hub cache, in a folder, nowhere on this machine yet, or behind a
server."""

_HUB_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+)[^?#]*)?/?(?:[?#].*)?",
    re.IGNORECASE,
)


def hub_page(address: str) -> tuple[str, str | None] | None:
    """Return the name and the revision of the model whose page on the hub or its mirror `address` is.

    A page as a browser shows it and ``git clone`` takes it; None for every other address.
    """
    found = _HUB_PAGE.fullmatch(address.strip())
    return (found["name"], found["revision"]) if found else None


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model to run on this machine, and how.

    Its fields after `source` are the settings of the section ``model``, under their names: a new option of
    loading is one field here and one row there.
    """

    source: str | None = None
    """A folder, a hub id or a short name; None: the built-in model."""
    device: str = "auto"
    gpus: str | None = None
    """A number of GPUs to spread it over, or a file that says what goes where."""
    quant: Quant | None = None
    """None keeps what the files are."""
    dtype: str | None = None
    """Of the weights that are not quantised; None takes the device's best."""
    threads: int | None = None
    cache: Cache = "auto"
    """Auto takes int8 next to quantised weights on the CPU."""
    ptuning: str | None = None
    """The folder of a P-tuning v2 checkpoint to put on top."""
    lora: str | None = None
    """The folder of a LoRA to put on top."""

    @property
    def name(self) -> str:
        """Short, for people and for the record of an answer."""
        return short_name(self.source)


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model behind an OpenAI-compatible server: vLLM, SGLang, llama-server, Ollama, LM Studio, glmtui."""

    source: str
    """What the person wrote: the address of the server with ``#NAME``, or an engine of the settings."""
    base_url: str
    """Of the server's interface, up to and with ``/v1``."""
    model: str = ""
    """As the server calls it; empty where it has but one."""
    key: str = ""
    """Where the key is found, never the key itself: ``env:NAME``, ``file:PATH`` or ``keyring:SERVICE``."""
    context: int | None = None
    """Prompt and answer together in tokens; None asks the server."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent besides, with every request."""
    body: Mapping[str, object] = field(default_factory=dict)
    """Sent besides, with every question; it comes before what glmtui would send."""
    images: bool | None = None
    """Whether the model sees pictures; None goes by what the server says, and by its name."""

    @property
    def name(self) -> str:
        """Short, for people and for the record of an answer."""
        return self.model or self.server

    @property
    def server(self) -> str:
        """The host, and the port where one is named."""
        return self.base_url.partition("://")[2].partition("/")[0].rpartition("@")[2]


ModelSpec: TypeAlias = LocalModel | RemoteModel


def short_name(source: str | None) -> str:
    """Return what a model is called for short: ``nano``, or the last part of its path or hub id."""
    if source is None:
        return "nano"
    return source.replace("\\", "/").rstrip("/").rpartition("/")[2] or source


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine, with the model it has, can be asked for."""

    load: bool = True
    """It takes another model by `Load`; a server has the one it has."""
    count_tokens: bool = True
    continue_answer: bool = True
    images: bool = False
    tools: bool = False
    embeddings: bool = False
    adapters: bool = False
    """A `Load` that differs from the last one in `ptuning` or `lora` alone switches them and reads no
    model."""
    slots: int = 1
    """Answers that it makes at once, each as fast as if it were alone or nearly so; more wait their turn."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded, for the status line, the messages' own record and `doctor`."""

    name: str
    """Short and the same in every language, as answers keep it: ``nano``, ``chatglm-6b``."""
    source: str | None
    architecture: str
    max_length: int
    """The longest prompt and answer together that the model was made for, in tokens."""
    supports_system: bool
    sampling: Sampling = DEFAULT_SAMPLING
    """What its makers chose, and how long conversations may be unless told otherwise."""
    parameters: int = 0
    builtin: bool = False
    note: Phrase = NOTHING
    """Something the person should know, such as why the CPU kernels are not used."""
    device: str = ""
    """``cpu``, ``cuda``, ``mps``; empty where the model runs on another machine, as are the next four."""
    device_name: str = ""
    quant: Quant = "none"
    dtype: str = ""
    memory_bytes: int = 0
    """Weights as they lie in memory."""
    server: str = ""
    """The host that the conversation is sent to; empty where the model runs on this machine."""
    sees_images: bool = False
    """Whether `Image` parts of messages reach the model; of a server's, whether it is known to take them."""

    @property
    def place(self) -> str:
        """Where the answers come from, for people: the device, or the server."""
        return self.server or self.device.upper()


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as the list of models shows it."""

    source: str | None
    """What `Load` and `Download` take; None: the built-in model."""
    name: str
    place: Place
    path: str = ""
    """Its folder; empty where it is absent."""
    hub_id: str = ""
    parameters: int = 0
    quant: Quant = "none"
    """How its files store the weights."""
    format: str = ""
    """``FP16``, ``INT4`` …, and for files that are here also of which kind they are."""
    max_length: int = 0
    file_bytes: int = 0
    """Size of its files; of an absent one, about."""
    part_bytes: int = 0
    """What has come of a download that is not finished."""
    needs: tuple[tuple[Quant, int], ...] = ()
    """Bytes of memory with each quantisation it can be loaded with, for the device of `ModelList`."""
    licence: Phrase = NOTHING
    chats: bool = True
    """False: a base model that only continues a text."""
    recommended: Quant | None = None
    """How to load it, where of all that fit this machine it answers best; None for all others."""
    problem: Phrase = NOTHING
    """Why it cannot be loaded."""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How much of a file has come, in bytes."""

    name: str
    done: int
    size: int
