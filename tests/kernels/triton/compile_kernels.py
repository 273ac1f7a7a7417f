"""Compile every kernel for an H200, without one, and print the results as JSON.

Each line: name, registers and bytes of local memory a thread, bytes of shared memory, whether it multiplies on the
tensor cores' own instructions (wgmma). Run apart from the tests, which interpret kernels instead.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from aerogel.kernels.triton import bsr_grad, bsr_linear, csr_linear, launch, packed_linear
from aerogel.sparse.formats import FORMATS

TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class H200:
    """The driver functions that Triton calls when it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device


def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
    assert not warmup
    kernel = RUN(self, *arguments, grid=grid, warmup=True, **options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        usage = subprocess.run(
            [TOOL, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    numbers = {name: int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "LOCAL", "STACK")}  # type: ignore[index]
    print(
        json.dumps(
            {
                "name": self.__name__,
                "dtype": str(arguments[0].dtype).removeprefix("torch."),
                "registers": numbers["REG"],
                "local": numbers["LOCAL"] + numbers["STACK"],
                "shared": kernel.metadata.shared,
                "wgmma": "wgmma" in kernel.asm["ptx"],
            }
        ),
        flush=True,
    )


def pruned(form: str, block: tuple[int, int], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    kept = np.random.default_rng(0).random((768 // block[0], 1024 // block[1])) < 0.1
    mask = np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
    arrays = FORMATS.get(form).encode(np.ones(mask.shape, np.float32), mask, block)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {**tensors, "data": tensors["data"].to(dtype)}


RUN = JITFunction.run
JITFunction.run = compile_only
driver.set_active(H200())
# CPU tensors replace GPU tensors: only dtypes and alignment matter.
launch.interpreted = lambda: True
for module in (bsr_grad, bsr_linear, packed_linear):
    module.widened = lambda _: False

half = torch.float16
blocks = bsr_linear.BsrWeight.from_arrays(pruned("bsr", (64, 64), half), 1024)
x, y, bias = torch.zeros(4096, 1024, dtype=half), torch.zeros(4096, 768, dtype=half), torch.zeros(768)
bsr_linear.bsr_linear(x, blocks, bias, "gelu", y)
bsr_linear.bsr_linear(x[:16], blocks, bias, "gelu_tanh")
bsr_grad.input_grad(y, blocks, bsr_grad.GradIndex.from_weight(blocks))
bsr_grad.weight_grad(y, x, blocks, bsr_grad.GradIndex.from_weight(blocks))
rows = csr_linear.CsrWeight.from_arrays(pruned("csr", (1, 1), torch.float32), 1024)
for tokens in (1, 4096):
    csr_linear.csr_linear(x[:tokens].float(), rows, bias)
packed = packed_linear.PackedWeight.from_csr(pruned("csr", (1, 1), half), 1024)
packed_linear.packed_linear(x[:16], packed, bias)
