"""The compiled kernels, or the reason why there are none.

``GLMTUI_KERNELS`` forces one implementation: ``avx512``, ``avxvnni``, ``avx2``, ``neon``, ``plain`` (C
without vector instructions of its own) or ``torch`` (nothing compiled).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch

from glmtui.protocol.phrases import NOTHING, Phrase, _, verbatim
from glmtui.quant.cpu.build import BuildError, build_kernels, install_advice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from glmtui.quant.formats import Packed

VARIABLE = "GLMTUI_KERNELS"
PAGE = 16
"""Tokens that lie together in a cache of bytes (cached.h)."""
WIDEST_HEAD = 256
"""Columns that a head may have (layers.c)."""
CHOICES = ("avx512", "avxvnni", "avx2", "neon", "plain", "torch")
CACHED = (torch.float16, torch.uint8)
"""What keys and values may be in a cache that the kernels use: numbers, or pages of bytes."""
_KINDS = (torch.float32, torch.float16, torch.bfloat16)
"""What packing.c reads, in the order of its `Kind`."""


@dataclass(frozen=True)
class Status:
    """What multiplies quantised weights on a device."""

    implementation: str
    """On the CPU one of `CHOICES`; on a GPU ``triton``, ``triton, cpm_kernels`` or ``torch``."""
    reason: Phrase = NOTHING
    """Why it is not faster, and what to do, for people; empty when all is well."""
    threaded: bool = True


class Matrix(ctypes.Structure):
    """``Matrix`` of product.h: where the tensors of a `Packed` lie. Its maker keeps those alive."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "low", "scales", "factors", "row_scales", "bias")),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("bits", ctypes.c_int32),
    )

    @classmethod
    def of(cls, packed: Packed, bias: Tensor | None) -> Matrix:
        """Describe `packed` and a float32 `bias` ``[rows]``; all contiguous, on the CPU."""
        tensors = {**packed.tensors(), **({} if bias is None else {"bias": bias})}
        pointers = {name: tensor.data_ptr() for name, tensor in tensors.items()}
        return cls(rows=packed.rows, columns=packed.columns, bits=packed.bits, **pointers)


class Layer(ctypes.Structure):
    """``Layer`` of layers.c: one block of a network. Its maker keeps the tensors alive."""

    _fields_ = (
        *((name, Matrix) for name in ("query_key_value", "dense", "up", "down")),
        *((name, ctypes.c_void_p) for name in ("attention_norm", "attention_norm_bias")),
        *((name, ctypes.c_void_p) for name in ("mlp_norm", "mlp_norm_bias")),
    )


class Shape(ctypes.Structure):
    """``Shape`` of layers.c: what all blocks have in common."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("hidden", "inner", "heads", "groups", "size", "query_stride")),
        *((name, ctypes.c_int64) for name in ("key", "value", "group_stride", "distance")),
        *((name, ctypes.c_int32) for name in ("centred", "gated", "from_norm")),
        *((name, ctypes.c_float) for name in ("epsilon", "residual")),
    )


class Cache(ctypes.Structure):
    """``Cache`` of layers.c: one block's keys and values."""

    _fields_ = (("numbers", ctypes.c_void_p), ("capacity", ctypes.c_int64), ("bits", ctypes.c_int32))


class Attention(ctypes.Structure):
    """``Attention`` of cached.h: the heads of some tokens, and the pages they attend to."""

    _fields_ = (
        ("q", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("tokens", "token_stride", "heads", "head_stride")),
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
        *((name, ctypes.c_int64) for name in ("groups", "stride", "length", "size")),
        *((name, ctypes.c_void_p) for name in ("mask", "out")),
        ("causal", ctypes.c_int32),
    )


class Token(ctypes.Structure):
    """``Token`` of layers.c: whose caches its keys and values go to, and behind how many others."""

    _fields_ = (("sequence", ctypes.c_int64), ("place", ctypes.c_int64))


class Kernels:
    """The compiled library. Its functions let go of the interpreter lock while they run."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        pointer, number, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
        for name, *arguments in (
            ("multiply", ctypes.POINTER(Matrix), pointer, number, pointer, threads),
            ("refine", ctypes.POINTER(Matrix), pointer, number, pointer, number, pointer, threads),
            ("multiply_halves", pointer, threads, *(number,) * 2, pointer, number, pointer, threads),
            ("multiply_many_halves", pointer, threads, *(number,) * 2, pointer, number, pointer, threads),
            ("gelu", pointer, number, threads),
            ("swiglu", pointer, number, number, pointer, threads),
            ("rotate", *(pointer,) * 3, *(number,) * 7, pointer, threads),
            ("attend", *(pointer,) * 4, *(number,) * 8, pointer, threads),
            ("attend_cached", ctypes.POINTER(Attention), threads),
            ("put_cached", *(pointer, number, number) * 2, *(number,) * 4, *(pointer,) * 2, number, threads),
            ("layers", pointer, number, *(pointer,) * 3, number, *(pointer,) * 3, threads),
            ("attend_prompt", *(pointer,) * 4, *(number,) * 8, pointer, threads),
            ("quantize", pointer, threads, number, number, threads, *(pointer,) * 4, threads),
            ("reorder", pointer, number, number, threads, pointer, threads),
            ("unpack", ctypes.POINTER(Matrix), number, number, pointer, threads),
            ("multiply_gradient", ctypes.POINTER(Matrix), pointer, number, pointer, threads),
            ("crc32", ctypes.c_uint32, pointer, number),
            ("read", pointer, number, threads),
        ):
            getattr(library, f"glmtui_{name}").argtypes = arguments
        library.glmtui_crc32.restype, library.glmtui_read.restype = ctypes.c_uint32, ctypes.c_uint64
        self._c = library
        self._has_crc32 = bool(library.glmtui_has_crc32())
        library.glmtui_isa.restype = ctypes.c_char_p
        self.isa: str = library.glmtui_isa().decode()
        self.threaded = bool(library.glmtui_has_openmp())
        self.few: int = library.glmtui_few()
        """How many tokens get together, to the bit, what each gets alone: products are bound by memory."""

    def multiply(self, matrix: Matrix, x: Tensor) -> Tensor:
        """Return float32 ``[tokens, rows]``, the product of `matrix` with float32 `x` ``[tokens, columns]``.

        Of a matrix in two planes, the product of `few` tokens or less is that with the high one alone:
        `refine` goes on.

        Raises:
            MemoryError: there is no memory for the rounded activations.
        """
        out = torch.empty(x.shape[0], matrix.rows)
        if x.shape[0] and self._c.glmtui_multiply(
            matrix, x.data_ptr(), x.shape[0], out.data_ptr(), torch.get_num_threads()
        ):
            raise MemoryError
        return out

    def refine(self, matrix: Matrix, x: Tensor, blocks: Tensor, out: Tensor) -> None:
        """Make `out` ``[tokens, rows]``, a product, exact in the rows of some blocks of 16.

        Args:
            matrix: in two planes.
            x: what it was multiplied with, contiguous float32 ``[tokens, columns]``.
            blocks: which of each token, contiguous int64 ``[tokens, blocks]``, each once.
            out: contiguous, changed in place.

        Raises:
            MemoryError: there is no memory for the rounded activations.
        """
        tokens, count = blocks.shape
        pointers = (blocks.data_ptr(), count, out.data_ptr())
        if self._c.glmtui_refine(matrix, x.data_ptr(), tokens, *pointers, torch.get_num_threads()):
            raise MemoryError

    def multiply_halves(self, weight: Tensor, x: Tensor) -> Tensor:
        """Return float32 ``[tokens, rows]``, the product of `weight` with the rows of `x`; for few tokens.

        Args:
            weight: contiguous bfloat16 or float16 ``[rows, columns]``.
            x: contiguous float32 ``[tokens, columns]``.

        Raises:
            MemoryError: there is no memory for a copy of `x`.
        """
        return self._halves(self._c.glmtui_multiply_halves, weight, x)

    def multiply_many_halves(self, weight: Tensor, x: Tensor) -> Tensor:
        """Return the same of many tokens: products of words of 12 bits, whose scale 256 columns share."""
        return self._halves(self._c.glmtui_multiply_many_halves, weight, x)

    @staticmethod
    def _halves(multiply: Callable[..., int], weight: Tensor, x: Tensor) -> Tensor:
        out = torch.empty(len(x), len(weight))
        kind = (torch.float16, torch.bfloat16).index(weight.dtype)
        pointers = (x.data_ptr(), len(x), out.data_ptr(), torch.get_num_threads())
        if len(x) and multiply(weight.data_ptr(), kind, *weight.shape, *pointers):
            raise MemoryError
        return out

    def quantize(self, weight: Tensor, packed: Packed) -> bool:
        """Fill `packed` with contiguous `weight` of the same shape; return whether all weights are finite."""
        if weight.dtype not in _KINDS:
            weight = weight.float()
        tensors = (packed.values, packed.low, packed.scales, packed.factors)
        return not self._c.glmtui_quantize(
            weight.data_ptr(),
            _KINDS.index(weight.dtype),
            packed.rows,
            packed.columns,
            packed.bits,
            *(None if tensor is None else tensor.data_ptr() for tensor in tensors),
            torch.get_num_threads(),
        )

    def reorder(self, stored: Tensor, packed: Packed) -> None:
        """Fill the values of `packed` with a contiguous published weight."""
        pointers = (stored.data_ptr(), packed.values.data_ptr())
        shape = (packed.rows, packed.columns, packed.bits)
        self._c.glmtui_reorder(pointers[0], *shape, pointers[1], torch.get_num_threads())

    def unpack(self, matrix: Matrix, first: int, last: int) -> Tensor:
        """Return the weights of blocks `first` to `last` of 16 rows, float32 ``[rows, columns]``."""
        last = min(last, -(-matrix.rows // 16))
        out = torch.empty(min(matrix.rows, last * 16) - first * 16, matrix.columns)
        self._c.glmtui_unpack(matrix, first, last, out.data_ptr(), torch.get_num_threads())
        return out

    def multiply_gradient(self, matrix: Matrix, gradient: Tensor) -> Tensor:
        """Return ``gradient @ weight``, float32 ``[tokens, columns]``, of float32 `gradient` ``[tokens,
        rows]``.

        Raises:
            MemoryError: there is no memory for the sums.
        """
        gradient = gradient.contiguous()
        out = torch.empty(len(gradient), matrix.columns)
        if len(gradient) and self._c.glmtui_multiply_gradient(
            matrix, gradient.data_ptr(), len(gradient), out.data_ptr(), torch.get_num_threads()
        ):
            raise MemoryError
        return out

    def gelu_(self, x: Tensor) -> Tensor:
        """Turn contiguous float32 `x` into its GELU (approximated by tanh), in place."""
        self._c.glmtui_gelu(x.data_ptr(), x.numel(), torch.get_num_threads())
        return x

    def swiglu(self, x: Tensor) -> Tensor:
        """Return ``SiLU(gate) * up`` ``[..., width]`` of contiguous float32 `x` ``[..., 2 width]``."""
        width = x.shape[-1] // 2
        out = torch.empty(*x.shape[:-1], width)
        self._c.glmtui_swiglu(
            x.data_ptr(), x.numel() // (2 * width), width, out.data_ptr(), torch.get_num_threads()
        )
        return out

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor, distance: int) -> Tensor:
        """Return `x` with pairs of columns rotated, float32 ``[tokens, heads, parts, size]``.

        Args:
            x: the same shape; the last two dimensions are contiguous.
            cos: float32 of ``tokens * size`` elements, contiguous.
            sin: the same; it carries the rotation's sign.
            distance: of the columns of a pair; twice as much divides the size.
        """
        out = torch.empty(x.shape)
        strides = (x.stride(0), x.stride(1))
        threads = torch.get_num_threads()
        pointers = (x.data_ptr(), cos.data_ptr(), sin.data_ptr())
        self._c.glmtui_rotate(*pointers, *x.shape, *strides, distance, out.data_ptr(), threads)
        return out

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention of few tokens, to each what it gets alone: float32 ``[tokens, heads, size]``.

        Args:
            q: float32 ``[heads, tokens, size]``, of any strides but the last; the size is a multiple of 16.
            keys: float16 ``[groups, length, size]``, each group contiguous; strides as `values`.
            values: the same.
            mask: as in `attend_prompt`.

        Raises:
            MemoryError: there is no memory for the scores.
        """
        return self._attend(self._c.glmtui_attend, q, keys, values, mask)

    def put_cached(self, keys: Tensor, values: Tensor, place: int, pages: Tensor) -> None:
        """Put keys and values behind those of `place` tokens.

        Args:
            keys: float32 ``[groups, tokens, size]``, of any strides but the last; the size is a multiple of
                16.
            values: the same.
            place: how many tokens lie there already.
            pages: uint8 ``[2, groups, capacity / PAGE, PAGE (size + 4)]``, contiguous; see cached.h.
        """
        groups, tokens, size = keys.shape
        self._c.glmtui_put_cached(
            *(keys.data_ptr(), keys.stride(1), keys.stride(0)),
            *(values.data_ptr(), values.stride(1), values.stride(0)),
            *(tokens, groups, size, place),
            *(pages[0].data_ptr(), pages[1].data_ptr(), pages.stride(1)),
            torch.get_num_threads(),
        )

    def attend_cached(self, q: Tensor, pages: Tensor, length: int, mask: Tensor | None) -> Tensor:
        """Return the attention of tokens, to each what it gets alone: float32 ``[tokens, heads, size]``.

        Args:
            q: float32 ``[heads, tokens, size]``, of any strides but the last.
            pages: as in `put_cached`.
            length: tokens in them.
            mask: as in `attend_prompt`.

        Raises:
            MemoryError: there is no memory for the scores.
        """
        heads, tokens, size = q.shape
        out = torch.empty(tokens, heads, size)
        attention = Attention(
            q=q.data_ptr(),
            tokens=tokens,
            token_stride=q.stride(1),
            heads=heads,
            head_stride=q.stride(0),
            keys=pages[0].data_ptr(),
            values=pages[1].data_ptr(),
            groups=pages.shape[1],
            stride=pages.stride(1),
            length=length,
            size=size,
            mask=None if mask is None else mask.data_ptr(),
            out=out.data_ptr(),
        )
        if self._c.glmtui_attend_cached(attention, torch.get_num_threads()):
            raise MemoryError
        return out

    def layers(
        self,
        layers: ctypes.Array[Layer],
        shape: Shape,
        caches: Sequence[Sequence[Tensor]],
        tokens: Sequence[tuple[int, int]],
        cos: Tensor,
        sin: Tensor,
        x: Tensor,
    ) -> Tensor:
        """Return what `layers` make of few tokens, float32 in the shape of `x`.

        Args:
            layers: of a network.
            shape: theirs.
            caches: of each sequence every layer's keys and values, where the tokens' are put, contiguous:
                float16 ``[2, 1, groups, capacity, head_dim]``, or pages ``[2, 1, …]`` as in `put_cached`.
            tokens: of each token its sequence, and how many tokens lie there before it. Those of a sequence
                come side by side, one place behind another.
            cos: of the tokens' positions, contiguous float32 of ``tokens * head_dim`` elements; ``head_dim``
                is a multiple of 16.
            sin: the same; it carries the rotation's sign.
            x: contiguous float32 of ``tokens * hidden`` elements.

        Raises:
            MemoryError: there is no memory for what lies between the products.
        """
        out = x.clone()
        buffers = [_cache(each) for cache in caches for each in cache]
        places = (Token * len(tokens))(*(Token(*token) for token in tokens))
        pointers = (cos.data_ptr(), sin.data_ptr(), out.data_ptr())
        arguments = (ctypes.byref(shape), (Cache * len(buffers))(*buffers), places, len(tokens))
        if self._c.glmtui_layers(layers, len(layers), *arguments, *pointers, torch.get_num_threads()):
            raise MemoryError
        return out

    def attend_prompt(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention of many tokens, float32 ``[tokens, heads, size]``.

        Args:
            q: float32 ``[heads, tokens, size]``, of any strides but the last; the size is a multiple of 16.
            keys: float16 ``[groups, length, size]``, each group contiguous; strides as `values`.
            values: the same.
            mask: contiguous bool ``[tokens, length]``, True where a token may see a key (at least one);
                None: it sees all.

        Raises:
            MemoryError: there is no memory for the scores.
        """
        return self._attend(self._c.glmtui_attend_prompt, q, keys, values, mask)

    def _attend(
        self, function: Callable[..., int], q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        heads, tokens, size = q.shape
        out = torch.empty(tokens, heads, size)
        seen = None if mask is None else mask.data_ptr()
        pointers = (q.data_ptr(), keys.data_ptr(), values.data_ptr(), seen)
        sizes = (tokens, q.stride(1), heads, q.stride(0), len(keys), keys.shape[1], size, keys.stride(0))
        if function(*pointers, *sizes, out.data_ptr(), torch.get_num_threads()):
            raise MemoryError
        return out

    def crc32(self, memory: Tensor, crc: int = 0) -> int:
        """Return the checksum of the bytes of contiguous `memory`, behind others of checksum `crc`."""
        if not self._has_crc32:
            return zlib.crc32(memory.numpy().data, crc)
        return int(self._c.glmtui_crc32(crc, memory.data_ptr(), memory.nbytes))

    def read(self, memory: Tensor) -> None:
        """Read all bytes of contiguous `memory` once, with all threads: to measure the bandwidth."""
        self._c.glmtui_read(memory.data_ptr(), memory.nbytes, torch.get_num_threads())


def _cache(numbers: Tensor) -> Cache:
    pages = numbers.dtype == torch.uint8
    return Cache(numbers.data_ptr(), numbers.shape[3] * (PAGE if pages else 1), 8 if pages else 16)


@cache
def load() -> Kernels | None:
    """Return the kernels, compiled if need be, or None; `status` tells why."""
    return _load()[0]


def loaded() -> Kernels | None:
    """Return the kernels if they are in use already: what can do without should not compile them."""
    return load() if load.cache_info().currsize else None


def status() -> Status:
    """Return what is used and why."""
    return _load()[1]


@cache
def _load() -> tuple[Kernels | None, Status]:
    chosen = os.environ.get(VARIABLE) or None
    if chosen == "torch":
        return None, Status("torch", _("{variable} asks for it").format(variable=VARIABLE))
    if chosen is not None and chosen not in CHOICES:
        reason = _("{variable} is {value!r}, which is none of: {choices}")
        return None, Status(
            "torch", reason.format(variable=VARIABLE, value=chosen, choices=", ".join(CHOICES))
        )
    try:
        made = build_kernels(chosen)
        kernels = Kernels(str(made.path))
        if made.temporary and os.name == "posix":
            shutil.rmtree(made.path.parent, ignore_errors=True)  # the library stays mapped
    except (BuildError, OSError, AttributeError) as error:
        return None, Status("torch", error.phrase if isinstance(error, BuildError) else verbatim(str(error)))
    if not _is_right(kernels):
        reason = _("the kernels that {compiler} made compute wrong results").format(compiler=made.compiler)
        return None, Status("torch", reason)
    reason = NOTHING
    if not kernels.threaded:
        reason = _("{compiler} has no OpenMP, so one core is used. {advice}").format(
            compiler=made.compiler, advice=install_advice()
        )
    return kernels, Status(kernels.isa, reason, kernels.threaded)


def _is_right(kernels: Kernels) -> bool:
    """Compare a small matrix and product with PyTorch's: a compiler or emulator can be broken."""
    from glmtui.quant.formats import empty

    weight = torch.sin(torch.arange(16.0 * 128)).view(16, 128)
    x = torch.cos(torch.arange(2.0 * 128)).view(2, 128)
    packed = empty(4, 16, 128)
    finite = kernels.quantize(weight, packed)
    found, expected = packed.dequantize(), x @ packed.dequantize().T
    product = kernels.multiply(Matrix.of(packed, None), x)
    return finite and torch.allclose(found, weight, atol=0.1) and torch.allclose(product, expected, atol=0.05)
