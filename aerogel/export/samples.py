"""Verification samples in the manifest: a few inputs with the artifact's own outputs, for `aerogel verify`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.export.reference_model import TOLERANCE
from aerogel.export.verification_samples import SENTENCES

if TYPE_CHECKING:
    from aerogel.export.parity import Runner
    from aerogel.export.reference_model import ReferenceModel

__all__ = ["stored_samples"]

# Two texts of 5 and 24 words, and few values of each output, so that a manifest stays small.
_TEXTS = (SENTENCES[1], SENTENCES[12])
_VALUES = 64


def stored_samples(
    reference: ReferenceModel,
    runners: Mapping[str, Runner | str],
    checked: Mapping[str, Any],
    per_token: Collection[str],
) -> dict[str, Any]:
    """The entry ``samples`` of the manifest.

    Args:
        reference: tokenizes the texts.
        runners: ways to run the artifact; the first that is available gives the outputs.
        checked: what verification found, by runner.
        per_token: names of the outputs ``[batch, sequence, ...]``, of which only real tokens count.

    Returns:
        ``tolerance`` and ``batches``. Each batch has ``inputs`` (lists of integers by name) and ``outputs``: the shape,
        the largest absolute value, and every `stride`-th value of the flattened output, by name. `tolerance` is
        relative to the largest value: two runs that are each as near to the original as verification allows differ by
        at most twice that.
    """
    run = next(run for run in runners.values() if not isinstance(run, str))
    allowed = [result["bundled"]["allowed"] for result in checked.values() if "bundled" in result]
    batches = []
    for text in _TEXTS:
        inputs = reference.tokenize([text])
        real = inputs["attention_mask"] != 0
        outputs = {}
        for name, array in run(inputs).items():
            flat = np.ravel(array[real] if name in per_token else array)
            stride = -(-flat.size // _VALUES)
            outputs[name] = {
                "shape": list(array.shape),
                "largest": _short(np.abs(flat).max(initial=0.0)),
                "stride": stride,
                "values": [_short(value) for value in flat[::stride]],
            }
        batches.append({"inputs": {name: ids.tolist() for name, ids in inputs.items()}, "outputs": outputs})
    return {"tolerance": 2 * max([TOLERANCE, *(share for share in allowed if share)]), "batches": batches}


def _short(value: Any) -> float:
    """A float32 value in seven digits, which is its precision."""
    return float(f"{float(value):.7g}")
