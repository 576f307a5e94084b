"""From a name or folder to a model that answers: find, estimate, refuse in time, place tensor by tensor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch

from glmtui import host, memory, paths
from glmtui.engine import device as devices
from glmtui.engine.adapters import Adapters
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.device import Device
from glmtui.engine.device_map import Placement
from glmtui.engine.generation_defaults import published_sampling
from glmtui.engine.preflight import Prepared, find
from glmtui.errors import BadValueError, OutOfMemoryError, UnavailableError
from glmtui.failures import is_out_of_memory
from glmtui.hub import cache as hub_cache
from glmtui.hub import memory_estimate
from glmtui.hub.memory_estimate import SMALL, smaller_quants
from glmtui.hub.model_dir import TRANSFORMERS, ModelFolder
from glmtui.models import sat
from glmtui.models.checkpoint import Checkpoint, Network, assign, dtype_of, expected_shapes, new_network
from glmtui.models.glm_hf import GLM
from glmtui.models.prefix import KEYS as PREFIX
from glmtui.protocol.models import Cache, LocalModel, ModelInfo, Quant, short_name
from glmtui.protocol.phrases import NOTHING, Option, Phrase, _, listing, sentences
from glmtui.quant import cache as quant_cache
from glmtui.quant import int8_cache
from glmtui.quant.formats import Bits
from glmtui.quant.load import Scheme, is_own, read_into
from glmtui.quant.tiled import tile
from glmtui.text.units import size

Progress = Callable[[Literal["read", "quantize", "compile"], int, int], None]
"""Called after every tensor with the stage and the bytes done and in all; raises to cancel."""

NANO = LocalModel()
DTYPES = ("float32", "bfloat16", "float16")
CACHE_SIZED = 64 << 20
"""Bytes of weights up to which one thread does better than two: nano's 21 MB, on a busy machine, 230 tok/s
against 100."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model would be loaded: everything decided, nothing read yet."""

    source: str | None
    folder: ModelFolder
    prefix: ModelFolder | None
    """The P-tuning checkpoint on top."""
    place: Device
    quant: Quant
    dtype: torch.dtype
    threads: int
    placement: Placement
    """Which part goes to which device of that kind."""
    exact: bool = False
    """Activations are not rounded in the products with quantised weights."""
    cache: Cache = "auto"
    """Where it is auto, `caches_int8` says what comes of it."""

    @property
    def vision_dtype(self) -> torch.dtype:
        """Of the weights that look at pictures: 16 bits next to quantised ones, unless all are few."""
        rounded = self.quant != "none" and not self.exact and 4 * self.folder.sizes.parameters > SMALL
        return torch.bfloat16 if rounded else self.dtype

    @property
    def needed(self) -> int:
        """Bytes of the weights, of the keys and values of a conversation, and some to compute with."""
        return self.needed_at(self.quant)

    def needed_at(self, quant: Quant) -> int:
        """`needed`, were the weights quantised otherwise."""
        sizes, weight, cached = self.folder.sizes, self.dtype.itemsize, float(self.dtype.itemsize)
        if quant != "none" and not self.exact:
            weight, cached = 1, 2  # embeddings have 8 bits then, keys and values 16 or 8
        if self.caches_int8(quant):
            cached = memory_estimate.INT8_CACHED
        return memory_estimate.needed(sizes, quant, weight, cached)

    def caches_int8(self, quant: Quant) -> bool:
        """Whether keys and values have 8 bits next to weights quantised like that, if kernels are there."""
        if self.cache != "auto":
            return self.cache == "int8"
        ours = self.place.kind == "cpu" and self.folder.family not in TRANSFORMERS
        return ours and quant != "none" and not self.exact

    @property
    def free(self) -> int:
        """Bytes free for a model spread like this: the GPU that is full first limits it."""
        memories = (self.place.memory, *self.place.more)
        shares = self.placement.shares(self.folder)
        return min(
            int(memories[torch.device(device).index or 0].free / share) for device, share in shares.items()
        )

    def check_fits(self) -> None:
        """Raise OutOfMemoryError, naming what would fit, if the device has no room."""
        free = self.free
        if self.needed <= free:
            return
        message = _("{path} needs about {needed} of memory on {device}, and {free} are free.").format(
            path=self.folder.path, needed=size(self.needed), device=self.place.name, free=size(free)
        )
        raise OutOfMemoryError(sentences(message, self.advice(free)))

    def advice(self, room: int) -> Phrase:
        """Say which quantisation would fit into `room` bytes, if any does."""
        fitting = [
            _("{option} ({size})").format(option=Option("quant", quant), size=size(self.needed_at(quant)))
            for quant in smaller_quants(self.quant)
            if self.needed_at(quant) <= room
        ]
        if fitting:
            return _("This would fit: {options}").format(options=listing(fitting))
        return _("Close other programs, or take a smaller model.")


def load(
    spec: LocalModel, progress: Progress | None = None, *, prepared: Prepared | None = None
) -> ChatModel:
    """Load a model.

    Args:
        spec: which, and how.
        progress: see `Progress`.
        prepared: what `preflight` found of it; None: it is looked for.

    Raises:
        UserError: the model cannot be found, read or run as asked; the message says what to do.
        OutOfMemoryError: it would not fit, which is estimated before anything is read; or the device says so.
    """
    prepared = prepared or find(spec)
    chosen = plan(spec, prepared=prepared)
    torch.set_num_threads(chosen.threads)
    memory.keep_what_products_take()
    try:
        network = read(chosen, progress)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = _("{device} ran out of memory while {path} was loaded, which needs about {needed}.")
        message = message.format(
            device=chosen.place.name, path=chosen.folder.path, needed=size(chosen.needed)
        )
        raise OutOfMemoryError(sentences(message, chosen.advice(chosen.needed - 1))) from error
    adapters = Adapters(network, chosen.folder, spec.ptuning, chosen.dtype)
    adapters.use(spec.ptuning, spec.lora)
    return ChatModel(network, chosen.folder, describe(chosen, network), prepared.tokenizer, adapters)


def plan(spec: LocalModel = NANO, *, prepared: Prepared | None = None) -> Plan:
    """Decide how `load` would load, and check that it fits, without reading weights. See `load`."""
    result = _plan(spec, prepared or find(spec))
    result.check_fits()
    return result


def check(spec: LocalModel, prepared: Prepared) -> None:
    """Raise what `load` would, as far as it can be told while another model takes the memory."""
    _plan(spec, prepared)


def _plan(spec: LocalModel, prepared: Prepared) -> Plan:
    folder = prepared.folder
    place = devices.choose("cuda" if spec.gpus and spec.device == "auto" else spec.device)
    chosen_quant = _parse_quant(spec.quant, folder)
    exact = spec.dtype is not None or place.kind != "cpu"
    chosen_dtype = _parse_dtype(spec.dtype) or devices.default_dtype(place, folder.sizes.parameters)
    if chosen_dtype == torch.bfloat16 and not place.bfloat16:
        message = _("{device} does not compute with bfloat16. Choose float16.")
        raise UnavailableError(message.format(device=place.name))
    if chosen_quant != "none" and not exact:
        chosen_dtype = torch.float32
    threads = spec.threads or default_threads(4 * folder.sizes.parameters)
    return Plan(
        spec.source,
        folder,
        prepared.prefix,
        place,
        chosen_quant,
        chosen_dtype,
        threads,
        _place(folder, place, spec.gpus),
        exact,
        _parse_cache(spec.cache),
    )


class _Meter:
    """Tells of the bytes of a load, counted from nothing in every stage and for every folder."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._stage: Literal["read", "quantize"] = "read"
        self._done = self._total = 0

    def begin(self, stage: Literal["read", "quantize"], total: int) -> None:
        """Begin a stage of `total` bytes."""
        self._stage, self._done, self._total = stage, 0, total

    def add(self, count: int) -> None:
        """Count bytes that are done."""
        self._done = min(self._done + count, self._total)
        if self._progress is not None:
            self._progress(self._stage, self._done, self._total)


def read(plan: Plan, progress: Progress | None = None) -> Network:
    """Build the network without memory and place its tensors one at a time, never two copies of the model."""
    network = new_network(plan.folder)
    shapes = expected_shapes(network)
    parts = [(plan.folder, shapes)]
    if plan.prefix is not None:
        trained = {name: shape for name, shape in shapes.items() if name.startswith(PREFIX)}
        base = {name: shape for name, shape in shapes.items() if name not in trained}
        parts = [(plan.folder, base), (plan.prefix, trained)]
    meter = _Meter(progress)
    for folder, expected in parts:
        meter.begin("read", folder.file_bytes)
        if plan.quant != "none" and folder is plan.folder:
            read_quantized(plan, network, expected, meter)
            continue
        for name, tensor in Checkpoint(folder).tensors(expected, network.TIED):
            dtype = dtype_of(network, name, plan.dtype)
            assign(network, name, tensor.to(plan.placement.of(name), dtype, copy=True))
            meter.add(tensor.nbytes)
    network.tie_weights()
    if not isinstance(network, GLM) and network.transformer.prefix_encoder is not None:
        network.transformer.prefix_encoder.fold()
    tile(network)
    plan.placement.connect(network, plan.folder)
    if plan.caches_int8(plan.quant):
        int8_cache.use(network, asked_for=plan.cache == "int8")
    return network.eval()


def read_quantized(
    plan: Plan,
    network: Network,
    names: Mapping[str, tuple[int, ...]],
    meter: _Meter,
) -> None:
    """Place quantised weights: from the cache if they are there or can be made there, else made in memory.

    Published INT8 and INT4 weights are put in order as fast as a disk gives them, so they are in memory first
    and in the cache soon after.
    """
    bits: Bits = 8 if plan.quant == "8" else 4
    source = folder = plan.folder
    converts = not is_own(source.config) and not (plan.exact and source.quant != "none")
    cacheable = converts and source.file_bytes >= quant_cache.CACHED_FROM
    if found := quant_cache.open_cached(source, bits) if cacheable else None:
        folder = found
        meter.begin("read", folder.file_bytes)
    elif source.quant == "none":
        meter.begin("quantize", source.file_bytes)
        if cacheable and quant_cache.has_room(source, bits):
            with contextlib.suppress(OSError):  # no room or no permission: it runs all the same
                folder = quant_cache.fill_cache(source, bits, meter.add, names=names)
                meter.begin("read", folder.file_bytes)
    read_into(
        network,
        folder,
        names,
        Scheme.of(folder, bits, plan.exact),
        device=plan.placement.of,
        dtype=plan.dtype,
        vision_dtype=plan.vision_dtype,
        activations="float" if plan.exact else "int8",
        done=meter.add,
    )
    trained = any(name.startswith(PREFIX) for name in names)  # a prefix is folded once it is placed
    if cacheable and not trained and folder is source and source.quant != "none":
        quant_cache.fill_cache_later(source, bits, network, names)


def describe(plan: Plan, network: Network) -> ModelInfo:
    """Say what is loaded."""
    builtin = plan.source is None
    return ModelInfo(
        name=short_name(None) if builtin else hub_cache.title(plan.folder.path),
        source=plan.source,
        architecture=plan.folder.family,
        parameters=plan.folder.sizes.parameters,
        device=plan.place.kind,
        device_name=plan.place.name,
        quant=plan.quant,
        dtype=str(plan.dtype).removeprefix("torch."),
        memory_bytes=sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers())),
        max_length=network.config.max_length,
        sampling=published_sampling(plan.folder, network.config.max_length),
        sees_images=network.sees_images,
        supports_system=plan.folder.family in ("chatglm3", "chatglm4", *TRANSFORMERS),
        builtin=builtin,
        note=_note(plan),
    )


def _note(plan: Plan) -> Phrase:
    """Say what a person should know of what was chosen: what the family was told by, why it is slow."""
    family = NOTHING if plan.folder.tells_its_family else _assumed_family(plan.folder)
    if plan.folder.is_sat:
        family = sat.RowOrder.of(plan.folder).note(plan.folder)
    speed = _speed(plan)
    return sentences(family, speed) if family and speed else family or speed


def _assumed_family(folder: ModelFolder) -> Phrase:
    return _(
        "Nothing in {path} tells whether it is a ChatGLM2, a ChatGLM3 or a CodeGeeX2, so it is talked to as "
        "a ChatGLM2. If it is another one, put the files of its tokenizer next to the weights, or let the "
        "folder's name say so (chatglm3, codegeex2)."
    ).format(path=folder.path)


def _speed(plan: Plan) -> Phrase:
    """Say why quantised products are slower than they could be, and what to install."""
    if plan.quant == "none" or plan.place.kind == "mps":
        return NOTHING
    if plan.place.kind == "cuda":
        from glmtui.quant import cuda

        return cuda.status(torch.device("cuda", torch.cuda.current_device())).reason
    from glmtui.quant import cpu

    return cpu.status().reason


def default_threads(weight_bytes: int) -> int:
    """Return one thread per physical core, but a single one for weights that a core's cache nearly holds.

    There the threads would wait for each other longer than they compute, and much longer on a busy machine.
    """
    return 1 if weight_bytes <= CACHE_SIZED else host.usable_cores()


def _place(folder: ModelFolder, place: Device, gpus: str | None) -> Placement:
    """Spread `folder` over as many GPUs as asked for, or as the file `gpus` says."""
    if not gpus:
        return Placement.single(place.kind)
    if place.kind != "cuda":
        raise BadValueError(
            _("Several GPUs need CUDA, and the device is {device}.").format(device=place.kind)
        )
    there = [f"cuda:{index}" for index in range(1 + len(place.more))]
    if not gpus.isdecimal():
        return Placement.read(paths.typed(gpus), folder, new_network(folder), there)
    if int(gpus) > len(there):
        message = _("There are {count} GPUs, not {wanted}.")
        raise UnavailableError(message.format(count=len(there), wanted=int(gpus)))
    return Placement.balanced(folder, there[: int(gpus)])


def _parse_quant(quant: Quant | None, folder: ModelFolder) -> Quant:
    if quant is None:
        return folder.quant
    if quant not in get_args(Quant):
        message = _("There is no quantisation {quant!r}. Choose one of: none, 8, 4")
        raise BadValueError(message.format(quant=quant))
    if folder.quant not in ("none", quant):
        message = _(
            "The weights of {path} have {stored} bits and cannot have other ones. Load it with {option}."
        )
        option = Option("quant", folder.quant)
        raise BadValueError(message.format(path=folder.path, stored=folder.quant, option=option))
    return quant


def _parse_cache(name: Cache) -> Cache:
    if name not in get_args(Cache):
        message = _("There is no cache {cache!r}. Choose one of: {choices}")
        raise BadValueError(message.format(cache=name, choices=listing(get_args(Cache))))
    return name


def _parse_dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    if name not in DTYPES:
        message = _("There is no weight type {dtype!r}. Choose one of: {choices}")
        raise BadValueError(message.format(dtype=name, choices=listing(DTYPES)))
    return cast("torch.dtype", getattr(torch, name))
