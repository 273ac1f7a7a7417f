"""Verify an artifact before it is put in place: every way to run it, over the bundled texts and a file's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.export import parity
from aerogel.export.embeddings import Table
from aerogel.export.plan import FP32, StoragePlan
from aerogel.ops.value_type import VALUE_TYPES

if TYPE_CHECKING:
    from aerogel.export.reference_model import ReferenceModel
    from aerogel.export.target import GraphTarget

__all__ = ["NORMALIZED", "UNROUNDED", "verify"]

NORMALIZED = "normalized"
"""What the comparison of the graph that was worked on with the file that it was read from is called."""

UNROUNDED = "unrounded"
"""What the comparison with activations left unrounded is called beside those of the runners."""


def verify(
    source: ReferenceModel,
    plan: Mapping[str, StoragePlan],
    tables: Mapping[str, Table],
    target: GraphTarget,
    artifact: Path,
    runners: Mapping[str, parity.Runner | str],
    texts: tuple[list[str], list[str] | None] | None,
    per_token: Collection[str],
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Compare an artifact with PyTorch on the weights that it stores.

    Where it rounds activations, two correct computations may round some of them apart, so the comparison is a wide
    one. Everything but that rounding is therefore compared closely first, with the rounding left out of both.

    Args:
        source: the checkpoint's model.
        plan: how its matrices are stored.
        tables: how its embedding tables are.
        target: what the artifact is.
        artifact: the file.
        runners: ways to run it, or why one cannot be had.
        texts: texts, and their partners, to compare over as well.
        per_token: names of the outputs ``[batch, sequence, ...]``.
        progress: told (stage, steps done, steps in all).

    Returns:
        Per runner the comparisons, or the reason for not comparing.

    Raises:
        ParityError: an output is further off than allowed.
        ExportError: a layer's input is to be rounded in a way that PyTorch's model has no place for.
    """
    usable = {name: run for name, run in runners.items() if not isinstance(run, str)}
    ties = any(VALUE_TYPES.get(choice.weights).rounds_activations for choice in plan.values())
    inputs = {"bundled": list(parity.batches(source))}
    if texts:
        inputs["file"] = list(parity.text_batches(source, *texts))
    given = source.as_given()
    total = sum(map(len, inputs.values())) + (ties + (given is not None)) * len(inputs["bundled"])
    steps = itertools.count(1)

    def told(batches: list[parity.Batch]) -> Iterator[parity.Batch]:
        for batch in batches:
            yield batch
            progress("verify", next(steps), total)

    values = {name: matrix.rounded() for name, matrix in plan.items() if matrix.weights != FP32}
    values |= {name: table.rounded for name, table in tables.items() if table.weights != FP32}
    reference = source.rounded(values) if values else source
    original = source if values else None
    report: dict[str, Any] = {
        name: {"not_checked": run} if isinstance(run, str) else {} for name, run in runners.items()
    }
    if given is not None:
        normalized = {NORMALIZED: source.run}
        (comparison,) = parity.compare(given, told(inputs["bundled"]), normalized, per_token).values()
        report[NORMALIZED] = {"bundled": asdict(comparison)}
    if ties:
        closely = {UNROUNDED: target.unrounded(artifact)}
        (comparison,) = parity.compare(reference, told(inputs["bundled"]), closely, per_token).values()
        report[UNROUNDED] = {"bundled": asdict(comparison)}
        reference.round_activations({name: matrix.weights for name, matrix in plan.items()})
    for kind, batches in inputs.items():
        found = parity.compare(reference, told(batches), usable, per_token, original, ties=ties)
        for name, comparison in found.items():
            report[name][kind] = asdict(comparison)
    return report
