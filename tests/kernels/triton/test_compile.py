from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from aerogel.kernels.triton.launch import Device


@pytest.mark.skipif(platform.machine() != "x86_64", reason="Triton's assembler for NVIDIA comes for x86-64")
def test_every_kernel_compiles_without_spilling(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    script = Path(__file__).with_name("compile_kernels.py")
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr[-2000:]
    kernels = [json.loads(line) for line in result.stdout.splitlines()]
    assert {kernel["name"] for kernel in kernels} == {"_multiply", "_sample", "_gather", "_unpack", "_finish"}
    for kernel in kernels:
        # Registers that do not fit are spilled to local memory.
        assert kernel["local"] == 0, kernel
        assert kernel["shared"] <= Device().shared_memory, kernel
    many = [kernel for kernel in kernels if kernel["name"] in ("_multiply", "_sample", "_unpack")]
    # Only the product of few tokens has a tile too small for tensor cores.
    assert [kernel["wgmma"] for kernel in many] == [True, False, True, True, True]
