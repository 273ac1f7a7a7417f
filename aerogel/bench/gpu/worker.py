"""A process that measures benchmark cases: ``python -m aerogel.bench.gpu.worker DEVICE``.

It reads the name of a case per line of standard input, and replies with one line of JSON. A crash, such as an illegal
address, costs one case: the parent starts another worker.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

import torch

from aerogel.bench.gpu.case import cases, small
from aerogel.bench.gpu.roofline import roofline
from aerogel.bench.gpu.scenario import SCENARIOS
from aerogel.bench.gpu.tune import tuning_cases

ROOFLINE = "roofline"
MACHINE = "machine"


def main() -> int:
    """Answer requests until standard input ends."""
    # Libraries print to standard output too, so replies go to a private copy of it.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
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
            elif name == ROOFLINE:
                reply = {"result": roofline(device)}
            else:
                case = known[name]
                reply = {"result": SCENARIOS.get(case.scenario)(case, device)}
        except Exception as error:  # an error in one case must not stop the others
            reply = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
            if "CUDA error" in str(error):
                print(json.dumps(reply), file=replies, flush=True)
                return 1
        print(json.dumps(reply), file=replies, flush=True)
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
