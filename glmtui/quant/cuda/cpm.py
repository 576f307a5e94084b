"""Starts Triton's programs through cpm_kernels, where Triton's own launcher cannot be built.

Triton compiles for a named card anywhere, with what it ships; but to start what it compiled it builds a small
library with the system's C compiler and Python's headers, which many machines lack. cpm_kernels (the optional
extra ``cuda``) loads CUDA modules and starts their functions without either. It needs the CUDA runtime
library and raises at import without a driver, so it is imported only here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.uint8: "*u8",
    torch.int32: "*i32",
}
"""How Triton writes pointers to each type."""
WARP = 32


class CpmLauncher:
    """Compiles each program once for each kind of arguments, and starts it.

    Raises:
        ImportError: there is no cpm_kernels, or what it needs.
    """

    def __init__(self) -> None:
        from cpm_kernels.kernels.base import KernelFunction, LazyKernelCModule

        def load(code: bytes, name: str) -> Any:
            return KernelFunction(LazyKernelCModule(code), name)

        self._load: Callable[[bytes, str], Any] = load
        self._made: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def __call__(
        self, program: Any, grid: tuple[int, int], arguments: tuple[Any, ...], constants: Mapping[str, Any]
    ) -> None:
        """Start `program` on the current device and stream; `arguments` are tensors and whole numbers."""
        kinds = tuple(TYPES[each.dtype] if isinstance(each, Tensor) else "i32" for each in arguments)
        capability = torch.cuda.get_device_capability()
        key = (program.__name__, kinds, capability, *constants.values())
        if key not in self._made:
            compiled = compile_for(program, kinds, constants, 10 * capability[0] + capability[1])
            function = self._load(compiled.asm["cubin"], compiled.metadata.name)
            self._made[key] = (compiled.metadata, function)
        metadata, function = self._made[key]
        parameters: list[Any] = [
            ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor) else ctypes.c_int32(each)
            for each in arguments
        ]
        parameters += [ctypes.c_void_p(0)] * 2  # scratch memory that newer Tritons ask for, unused here
        stream = torch.cuda.current_stream().cuda_stream
        function((*grid, 1), (WARP * metadata.num_warps, 1, 1), metadata.shared, stream, parameters)


def compile_for(program: Any, kinds: tuple[str, ...], constants: Mapping[str, Any], capability: int) -> Any:
    """Return `program` compiled for cards of `capability` (75 is 7.5), without asking which is there.

    Args:
        program: of `glmtui.quant.cuda.kernels`.
        kinds: Triton's names for the types of its arguments, in order, before the constants.
        constants: by name.
        capability: ten times the major number plus the minor one.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = program.arg_names
    types = dict(zip(names, kinds, strict=False)) | dict.fromkeys(constants, "constexpr")
    # Weights are tensors of their own and lie on whole cache lines; of the others nothing is promised.
    aligned = [names.index(name) for name in ("values", "scales", "factors", "row_scales")]
    source = ASTSource(
        program,
        types,
        {(names.index(name),): value for name, value in constants.items()},
        {(place,): [["tt.divisibility", 16]] for place in aligned},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, WARP))
