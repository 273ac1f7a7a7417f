"""A process that measures the cases it is asked for: ``python -m aerogel.bench.gpu.worker DEVICE``.

It reads a case's name from a line of its input and answers in a line of JSON. What kills it, an illegal address for
example, costs one case: the parent starts another.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

import torch

from aerogel.bench.gpu.case import cases, small
from aerogel.bench.gpu.roofline import ceilings
from aerogel.bench.gpu.scenario import SCENARIOS
from aerogel.bench.gpu.tune import tuning_cases

CEILINGS = "ceilings"
MACHINE = "machine"


def main() -> int:
    """Answer until the input ends."""
    # Libraries print what they like; answers go where nothing else does.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    device = torch.device(sys.argv[1])
    dry = device.type != "cuda"
    known = {case.name: small(case) if dry else case for case in (*cases(), *tuning_cases())}
    for line in sys.stdin:
        name = line.rstrip("\n")
        reply: dict[str, object]
        try:
            if name == MACHINE:
                reply = {"result": _machine(device)}
            elif name == CEILINGS:
                reply = {"result": ceilings(device)}
            else:
                case = known[name]
                reply = {"result": SCENARIOS.get(case.kind)(case, device)}
        except Exception as error:  # whatever a case raises costs no other
            reply = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
            if "CUDA error" in str(error):
                print(json.dumps(reply), file=answers, flush=True)
                return 1
        print(json.dumps(reply), file=answers, flush=True)
        if not dry:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        torch.compiler.reset()
    return 0


def _machine(device: torch.device) -> dict[str, object]:
    if device.type != "cuda":
        return {"device": "Triton's interpreter", "dry_run": True}
    found = torch.cuda.get_device_properties(device)
    return {
        "device": found.name, "memory": found.total_memory, "processors": found.multi_processor_count,
        "l2": getattr(found, "L2_cache_size", 0), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
