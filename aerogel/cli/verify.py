"""`aerogel verify`: check a finished artifact again."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aerogel.system import arguments

HELP = "check an exported model again: hashes, structure, and outputs on the samples in its manifest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "artifact", type=Path, metavar="ARTIFACT", help="file or folder that `aerogel export` wrote"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of ONNX Runtime (default: one per core)"
    )
    parser.add_argument(
        "--json", type=arguments.output, metavar="FILE", help="write the checks to FILE; - is standard output"
    )


def run(args: argparse.Namespace) -> int:
    """Verify, and print a line for each check."""
    from dataclasses import asdict

    from aerogel.system.atomic_io import atomic_file, check_output
    from aerogel.system.overlap import check_outputs_distinct
    from aerogel.system.printable import escaped
    from aerogel.verify import verify_artifact

    to_file = args.json is not None and args.json != Path("-")
    if to_file:
        folder = args.artifact if args.artifact.is_dir() else args.artifact.parent
        check_outputs_distinct({"--json": args.json}, {}, {"the artifact's folder": folder})
        check_output(args.json)
    checks = []
    for check in verify_artifact(args.artifact, args.threads):
        checks.append(asdict(check))
        if args.json != Path("-"):
            print(escaped(f"{check.file}: {check.name}: {check.detail}"))
    text = json.dumps({"artifact": str(args.artifact), "checks": checks}, indent=2) + "\n"
    if to_file:
        with atomic_file(args.json) as file:
            file.write_text(text, encoding="utf-8")
    elif args.json:
        sys.stdout.write(text)
    return 0
