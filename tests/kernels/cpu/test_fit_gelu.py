"""Compare the committed coefficients of gelu.h with the script that fits them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

TOOL = Path(__file__).parents[3] / "tools" / "fit_gelu.py"
# Errors stated in gelu.h.
ERRORS = {"GeluErf": (8.5e-8, 9.0e-8), "GeluTanh": (1.2e-7, 7.5e-8)}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    pytest.importorskip("scipy")
    spec = importlib.util.spec_from_file_location("fit_gelu", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_gelu"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("form", ERRORS)
def test_committed_coefficients_have_the_stated_errors(tool: ModuleType, form: str) -> None:
    found = tool.committed(form)
    at_once, in_pieces = ERRORS[form]
    assert 0.9 * at_once < tool.error_at_once(form, found) <= at_once
    assert 0.9 * in_pieces < tool.error_in_pieces(form, found) <= in_pieces
    header = TOOL.parents[1].joinpath("aerogel/kernels/cpu/src/gelu.h").read_text(encoding="utf-8")
    assert f"fit {at_once:.1e} at once, {in_pieces:.1e} in pieces".replace("e-0", "e-") in header


@pytest.mark.parametrize("form", ERRORS)
def test_fit_reproduces_the_committed_coefficients(
    tool: ModuleType, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "_POINTS", 500)
    monkeypatch.setattr(tool, "_PIECE_POINTS", 60)
    monkeypatch.setattr(tool, "_ROUNDS", 300)
    old = tool.committed(form)
    new = tool.fit(form, old.end, old.pieces_per_unit)
    assert tool.error_at_once(form, new) <= 1.02 * tool.error_at_once(form, old)
    assert tool.error_in_pieces(form, new) <= 1.02 * tool.error_in_pieces(form, old)
    np.testing.assert_allclose(new.pieces, old.pieces, atol=2e-7)


def test_detects_a_changed_coefficient(tool: ModuleType) -> None:
    found = tool.committed("GeluErf")
    found.terms[3] += 1e-6
    found.pieces[1, 5] += 1e-6
    assert tool.error_at_once("GeluErf", found) > 2e-7
    assert tool.error_in_pieces("GeluErf", found) > 2e-7
