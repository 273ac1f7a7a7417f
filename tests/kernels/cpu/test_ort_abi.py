"""Compare the declared part of ONNX Runtime's C interface (src/ort_abi.h) with the official header.

No wheel ships that header, so the comparison is made where one is installed: set ONNXRUNTIME_INCLUDE to its folder.
Everywhere else the declarations are held by what they do: test_ort_ops.py runs through every one of them, and
`make test-runtimes` repeats that on the oldest supported release.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import aerogel.kernels.cpu

HEADER = "onnxruntime_c_api.h"
FOLDERS = [
    os.environ.get("ONNXRUNTIME_INCLUDE", ""),
    "/usr/include/onnxruntime",
    "/usr/local/include/onnxruntime",
]


def declared() -> tuple[dict[str, int], list[str]]:
    """Slots by official name, and the fields of OrtCustomOp in order."""
    sources = [Path(folder) / "src" / "ort_abi.h" for folder in aerogel.kernels.cpu.__path__]
    text = next(path for path in sources if path.is_file()).read_text(encoding="utf-8")
    slots = {name: int(number) for name, number in re.findall(r"^  ([A-Z]\w*) = (\d+),$", text, re.MULTILINE)}
    struct = text[text.index("struct OrtCustomOp {") :]
    return slots, ["version", *re.findall(r"\(\*(\w+)\)\(", struct)]


def test_declarations_are_complete() -> None:
    slots, fields = declared()
    assert slots["KernelContext_ParallelFor"] == 274
    assert len(fields) == 26
    assert len(slots) == 31


def test_offsets_in_the_official_header(tmp_path: Path) -> None:
    folder = next((folder for folder in FOLDERS if folder and (Path(folder) / HEADER).is_file()), None)
    compiler = shutil.which("c++")
    if folder is None or compiler is None:
        pytest.skip(f"{HEADER} or a compiler is not installed; set ONNXRUNTIME_INCLUDE")
    slots, fields = declared()
    lines = [f"#include <{HEADER}>", "#include <cstddef>"]
    lines += [
        f"static_assert(offsetof(OrtApi, {name}) == {slot} * sizeof(void*));" for name, slot in slots.items()
    ]
    lines += [
        f"static_assert(offsetof(OrtCustomOp, {f}) == {i} * sizeof(void*));" for i, f in enumerate(fields)
    ]
    source = tmp_path / "offsets.cc"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{folder}", str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
