"""Symbols and dependencies of the built library file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

import aerogel
from aerogel.kernels.cpu import native

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("nm"), reason="needs nm and ELF")


def test_exports_only_the_public_symbols() -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", aerogel.library_path()], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert "RegisterCustomOps" in names
    assert all(name == "RegisterCustomOps" or name.startswith("aerogel_") for name in names), names


def test_depends_only_on_the_c_library() -> None:
    listing = subprocess.run(
        ["readelf", "-d", aerogel.library_path()], capture_output=True, text=True, check=True
    )
    needed = re.findall(r"NEEDED.*\[(.*)\]", listing.stdout)
    assert all(re.match(r"(libc|libm|libpthread|ld-linux.*)\.so", name) for name in needed), needed


def test_has_a_symbol_table_for_profilers() -> None:
    listing = subprocess.run(["nm", "-C", aerogel.library_path()], capture_output=True, text=True, check=True)
    local = [line for line in listing.stdout.splitlines() if " t " in line]
    for isa in (isa.name for isa in native.isas() if isa.available):
        assert any(f"aerogel::{isa}::" in line and "Spmm" in line for line in local), f"no symbols of {isa}"
