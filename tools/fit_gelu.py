"""Fit the coefficients of aerogel/kernels/cpu/src/gelu.h and print them with their errors.

GELU is x F(x), where F - 1/2 is odd. Two approximations of F are fitted, in float64:

    at once:    F(x) ~ 1/2 + x p(s),  s = 2 (x / end)^2 - 1, degree 13 in s, F(end) = 1
    in pieces:  F(x) ~ 1/2 + sign(x) q_n(r),  |x| = (n + r) / pieces_per_unit,  |r| <= 1/2, degree 4 in r

Each is the minimax fit, by least squares over Chebyshev points that are reweighted until all peaks of the error are
equal (Lawson's algorithm). The error is that of F times min(1, |x|): the error of GELU relative
to max(1, |x|).

    python tools/fit_gelu.py             fit, compare with the committed coefficients
    python tools/fit_gelu.py --source    print the fit as C++
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import erfc, ndtr

HEADER = Path(__file__).parents[1] / "aerogel" / "kernels" / "cpu" / "src" / "gelu.h"
DEGREE, PIECE_DEGREE, PIECES = 13, 4, 16
_POINTS, _PIECE_POINTS, _ROUNDS = 4000, 400, 1500

Function = Callable[[np.ndarray], np.ndarray]


def _erf_form(x: np.ndarray) -> np.ndarray:
    """F(x) - 1/2 of GELU for x >= 0; accurate also near 1/2."""
    return np.asarray(ndtr(x) - 0.5)


def _tanh_form(x: np.ndarray) -> np.ndarray:
    """F(x) - 1/2 of GELU's tanh form."""
    return np.asarray(np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)) / 2)


FORMS: dict[str, Function] = {"GeluErf": _erf_form, "GeluTanh": _tanh_form}


@dataclass(frozen=True)
class Coefficients:
    """The coefficients of one struct of gelu.h.

    Attributes:
        end: F is taken as 0 or 1 outside [-end, end].
        terms: float64 ``[DEGREE + 1]``, coefficients of p, constant term first.
        pieces_per_unit: pieces in an interval of length 1.
        pieces: float64 ``[PIECE_DEGREE + 1, PIECES]``, coefficients of q_n, constant term first.
    """

    end: float
    terms: np.ndarray
    pieces_per_unit: float
    pieces: np.ndarray


def committed(form: str) -> Coefficients:
    """The coefficients in gelu.h."""
    text = HEADER.read_text(encoding="utf-8")
    body = text[text.index(f"struct {form} {{") :].partition("\n};")[0]
    number = r"-?\d[\d.]*(?:e-?\d+)?"

    def numbers(name: str) -> np.ndarray:
        found = re.search(rf"{name}(?:\[[^\]]*\])* = ([^;]*);", body)
        assert found, f"{HEADER} has no {name} in {form}"
        return np.array([float(value) for value in re.findall(f"({number})f", found[1])])

    return Coefficients(
        float(numbers("kEnd")[0]), numbers("kTerms"), float(numbers("kPiecesPerUnit")[0]),
        numbers("kPieces").reshape(PIECE_DEGREE + 1, PIECES),
    )  # fmt: skip


def fit(form: str, end: float, pieces_per_unit: float) -> Coefficients:
    """Fit the coefficients for a given end and number of pieces."""
    function = FORMS[form]
    return Coefficients(
        end, _fit_at_once(function, end), pieces_per_unit, _fit_pieces(function, pieces_per_unit)
    )


def error_at_once(form: str, found: Coefficients, points: int = 200_000) -> float:
    """Largest error of GELU in float64, relative to max(1, |x|), with one polynomial."""
    x = np.linspace(0, found.end, points)
    p = np.polynomial.polynomial.polyval(2 * (x / found.end) ** 2 - 1, found.terms)
    inside = np.abs(x * p - FORMS[form](x)) * np.minimum(1, x)
    return float(max(inside.max(), _tail(form, found.end)))


def error_in_pieces(form: str, found: Coefficients, points: int = 200_000) -> float:
    """Largest error of GELU in float64, relative to max(1, |x|), with 16 pieces; the last is the constant 1/2."""
    x = np.linspace(0, (PIECES - 1) / found.pieces_per_unit, points)
    n = np.rint(x * found.pieces_per_unit).astype(int)
    r = x * found.pieces_per_unit - n
    q = sum(found.pieces[k, n] * r**k for k in range(PIECE_DEGREE + 1))
    return float((np.abs(q - FORMS[form](x)) * np.minimum(1, x)).max())


def _tail(form: str, end: float) -> float:
    """Error beyond the end, where F is taken as 1."""
    if form == "GeluErf":
        return float(erfc(end / np.sqrt(2)) / 2)
    return float(0.5 - _tanh_form(np.array(end)))


def _minimax(basis: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients c that minimize ``max |weight (basis c - target)|``; basis ``[points, coefficients]``."""
    lawson = np.ones(len(target))
    best, least = np.zeros(basis.shape[1]), np.inf
    for _ in range(_ROUNDS):
        scale = weight * np.sqrt(lawson)
        found = np.linalg.lstsq(basis * scale[:, None], target * scale, rcond=None)[0]
        error = np.abs(weight * (basis @ found - target))
        if error.max() < least:
            best, least = found, error.max()
        lawson *= error / error.max() + 1e-9
        lawson /= lawson.max()
    return best


def _fit_at_once(function: Function, end: float) -> np.ndarray:
    s = np.cos(np.pi * (np.arange(_POINTS) + 0.5) / _POINTS)
    x = end * np.sqrt((s + 1) / 2)
    # p(1) = 1 / (2 end) holds exactly: p(s) = 1 / (2 end) + (s - 1) r(s).
    basis = (s - 1)[:, None] * np.polynomial.chebyshev.chebvander(s, DEGREE - 1) * x[:, None]
    found = _minimax(basis, function(x) - x / (2 * end), np.minimum(1, x))
    terms = np.polynomial.polynomial.polymul(np.polynomial.chebyshev.cheb2poly(found), [-1.0, 1.0])
    terms[0] += 1 / (2 * end)
    return np.asarray(terms)


def _fit_pieces(function: Function, pieces_per_unit: float) -> np.ndarray:
    pieces = np.zeros((PIECE_DEGREE + 1, PIECES))
    for n in range(PIECES - 1):
        low = 0.0 if n == 0 else -0.5  # |x| is not negative
        r = low + (0.5 - low) * (1 + np.cos(np.pi * (np.arange(_PIECE_POINTS) + 0.5) / _PIECE_POINTS)) / 2
        x = (n + r) / pieces_per_unit
        basis = np.polynomial.polynomial.polyvander(r, PIECE_DEGREE)
        pieces[:, n] = _minimax(basis, function(x), np.minimum(1, x))
    pieces[0, PIECES - 1] = 0.5
    return pieces


def _source(form: str, found: Coefficients) -> str:
    def row(values: np.ndarray) -> str:
        return ", ".join(f"{np.float32(value)!s}f" for value in values)

    pieces = "\n".join(f"      {{{row(values)}}}," for values in found.pieces)
    return (
        f"struct {form} {{\n  static constexpr float kPiecesPerUnit = {found.pieces_per_unit}f;\n"
        f"  static constexpr float kPieces[{PIECE_DEGREE + 1}][{PIECES}] = {{\n{pieces}\n  }};\n"
        f"  static constexpr float kEnd = {found.end}f;\n"
        f"  static constexpr float kTerms[] = {{{row(found.terms)}}};\n}};"
    )


def main() -> None:
    """Fit both forms."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", action="store_true", help="print the fitted coefficients as C++")
    source = parser.parse_args().source
    for form in FORMS:
        old = committed(form)
        new = fit(form, old.end, old.pieces_per_unit)
        if source:
            print(_source(form, new))
            continue
        for how, error in (("at once", error_at_once), ("in pieces", error_in_pieces)):
            print(
                f"{form} {how}: largest error {error(form, new):.3g} fitted, {error(form, old):.3g} committed"
            )
        difference = np.abs(old.terms - new.terms).max(), np.abs(old.pieces - new.pieces).max()
        print(
            f"{form}: coefficients differ by at most {difference[0]:.2g} at once, {difference[1]:.2g} in pieces"
        )


if __name__ == "__main__":
    main()
