"""The command line of the GPU benchmark."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aerogel.bench.gpu import results as documents
from aerogel.bench.gpu import tune
from aerogel.bench.gpu.case import Case, cases
from aerogel.bench.gpu.child import Child
from aerogel.bench.gpu.summary import markdown
from aerogel.errors import AerogelError, RuntimeLoadError, UsageError, require
from aerogel.system import arguments
from aerogel.system.atomic_io import atomic_file, check_output
from aerogel.system.printable import one_line
from aerogel.system.versions import versions
from aerogel.torch.cuda import table

__all__ = ["main"]

_PACKAGES = ("aerogel", "torch", "triton", "transformers", "numpy")
# The slowest case compiles a whole encoder twice.
_CASE_SECONDS = 300.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write results.json and gpu.md, or the table of `--tune`; return 2 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m aerogel.bench.gpu", description="The GPU benchmark.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results")
    parser.add_argument("--minutes", type=float, metavar="N", help="start no new case after N minutes")
    parser.add_argument(
        "--cases",
        type=arguments.words,
        metavar="WORD,...",
        help="measure only cases whose names contain all these words",
    )
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    parser.add_argument(
        "--tune", action="store_true", help="measure the table from which aerogel.torch chooses kernels"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check that everything runs: small sizes on the CPU, in Triton's interpreter",
    )
    args = parser.parse_args(argv)
    try:
        return _run(args, time.monotonic())
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, start: float) -> int:
    chosen = [
        case
        for case in (tune.tuning_cases() if args.tune else cases())
        if all(word in case.name.split() for word in args.cases or [])
    ]
    if args.list:
        print("\n".join(case.name for case in chosen))
        return 0
    if not chosen:
        raise UsageError(f"--cases {','.join(args.cases)}: matches no case; --list lists them")
    if args.minutes is not None and not args.minutes > 0:
        raise UsageError(f"--minutes {args.minutes}: must be greater than 0")
    device = "cpu" if args.dry_run else _gpu()
    path = args.out / ("tuning.json" if args.tune else "results.json")
    check_output(path)
    status = 0
    with Child(device) as child:
        machine = child.ask("machine", _CASE_SECONDS)
        if "error" in machine:
            raise RuntimeLoadError(f"cannot start the GPU worker: {machine['error']}")
        found = documents.load(path, machine["result"], versions(_PACKAGES))
        if not found.roofline:
            found.roofline = child.ask("roofline", _CASE_SECONDS).get("result", {})
        for number, case in enumerate(chosen, 1):
            if case.name in found.cases:
                continue
            if args.minutes is not None and time.monotonic() - start > args.minutes * 60:
                print(
                    f"stopped after {args.minutes:g} minutes; run the command again to resume",
                    file=sys.stderr,
                )
                break
            print(f"{number} of {len(chosen)}: {case.name}", flush=True)
            reply = child.ask(case.name, _CASE_SECONDS)
            if "result" in reply:
                found.cases[case.name] = {"rows": reply["result"]}
            else:
                found.cases[case.name] = reply
                print(f"aerogel: error: {case.name}: {reply['error']}", file=sys.stderr)
                status = 2
            documents.save(path, found)
            _write(args, found, chosen)
    if found.cases:
        print(_write(args, found, chosen))
    return status


def _write(args: argparse.Namespace, found: documents.Results, chosen: Sequence[Case]) -> str:
    """Write the table of `--tune`, or gpu.md; return the text to print at the end."""
    if args.tune:
        rows = list(tune.rows({case.name: case for case in chosen}, found.cases))
        path = args.out / "table.json" if args.dry_run else table.table_path(found.machine["device"])
        table.save(path, found.machine["device"], rows)
        return f"{path}: {len(rows)} measurements"
    words = [*(["--cases", ",".join(args.cases)] if args.cases else []), *["--dry-run"] * args.dry_run]
    command = shlex.join(["python", "-m", "aerogel.bench.gpu", "--out", str(args.out), *words])
    text = markdown(command, found, chosen)
    with atomic_file(args.out / "gpu.md") as file:
        file.write_text(text, encoding="utf-8")
    return text


def _gpu() -> str:
    torch = require("torch", "gpu")
    require("triton", "gpu")
    if not torch.cuda.is_available():
        raise UsageError("PyTorch finds no GPU; install its CUDA build and a driver, or add --dry-run")
    return "cuda"


if __name__ == "__main__":
    raise SystemExit(main())
