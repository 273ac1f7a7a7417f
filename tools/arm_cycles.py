"""Estimate the cycles of the kernels' inner loops on 64-bit Arm cores; prints a Markdown table.

The kernels are compiled with the flags of the library, the innermost loop of each is extracted from the assembly, and
llvm-mca simulates it on its model of a core. Every load hits the first-level cache and every branch is predicted.

    apt-get install g++-aarch64-linux-gnu llvm-19
    python tools/arm_cycles.py
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "aerogel" / "kernels" / "cpu" / "src"
# The flags of CMakeLists.txt.
FLAGS = [
    "-std=c++17", "-O3", "-fPIC", "-ffp-contract=off", '-DAEROGEL_SIMD_HEADER="simd_neon.h"',
    '-DAEROGEL_WEIGHT_LOAD_HEADER="weight_load_neon.h"',
]  # fmt: skip
ISAS = {"neon": [], "neondot": ["-march=armv8.2-a+dotprod"]}


@dataclass(frozen=True)
class Loop:
    """An inner loop.

    Attributes:
        name: value type and block.
        isa: instruction set.
        function: the function of linear.cc that contains the loop.
        entries: stored weights per iteration (for int8: groups of four).
        vectors: vectors of activations that each entry is multiplied by.
        operations: additions and multiplications per entry and vector.
    """

    name: str
    isa: str
    function: str
    entries: int
    vectors: int = 4
    operations: int = 8


LOOPS = [
    Loop("fp32, rows", "neon", "RowGroup<Float32, 4, false, kAnyLength>", 4),
    Loop("fp32, 4x1 blocks", "neon", "BlockGroups<Float32, 4, 4, false>", 4),
    Loop("fp16, rows", "neon", "RowGroup<Float16, 4, false, kAnyLength>", 4),
    Loop("int8, 1x4 blocks", "neon", "RowGroup<Int8, 4, false, kAnyLength>", 4, operations=32),
    Loop("int8, 1x4 blocks", "neondot", "RowGroup<Int8, 4, false, kAnyLength>", 4, operations=32),
    Loop("int8, 4x4 blocks", "neondot", "BlockGroups<Int8, 4, 4, false>", 4, operations=32),
]


@dataclass(frozen=True)
class Core:
    """A core that llvm-mca can simulate.

    Attributes:
        cpu: name for llvm-mca.
        description: where the core is used.
        isas: instruction sets that it supports.
        pipes: 128-bit vector multiplications that it can start per cycle.
    """

    cpu: str
    description: str
    isas: tuple[str, ...]
    pipes: int


CORES = [
    Core("cortex-a53", "in order; phones of 2014 to 2018, Raspberry Pi 3", ("neon",), 1),
    Core("cortex-a55", "in order; the small cores of phones since 2018", ("neon", "neondot"), 1),
    Core(
        "neoverse-n1",
        "out of order; Cortex-A76 of phones, cloud servers, Raspberry Pi 5",
        ("neon", "neondot"),
        2,
    ),
    Core("neoverse-v1", "out of order, wide; Cortex-X1 of phones, cloud servers", ("neon", "neondot"), 4),
]


def assembly(compiler: str, isa: str, folder: Path) -> str:
    """Compile linear.cc to assembly, with each loop inlined into one function of its own."""
    source, out = folder / f"{isa}.cc", folder / f"{isa}.s"
    calls = [
        f'extern "C" __attribute__((flatten)) void loop_{number}(const GroupArgs& group) '
        f"{{ {loop.function}(group); }}\n"
        for number, loop in enumerate(LOOPS)
        if loop.isa == isa
    ]
    source.write_text(f'#include "linear.cc"\nnamespace aerogel::{isa} {{\n{"".join(calls)}}}\n')
    defines = [f"-DAEROGEL_ISA={isa}", f'-DAEROGEL_NAME="{isa}"', f"-I{SOURCES}"]
    subprocess.run(
        [compiler, *FLAGS, *ISAS[isa], *defines, "-fno-asynchronous-unwind-tables", "-S", source, "-o", out],
        check=True,
    )
    return out.read_text()


def inner_loop(text: str, name: str) -> list[str]:
    """Instructions of the loop with the most multiplications among those without a branch inside."""
    begin = re.search(rf"^{name}:$", text, re.MULTILINE)
    assert begin is not None  # `assembly` gave it this name
    lines = text[begin.end() :].split("\n")
    lines = lines[: next(i for i, line in enumerate(lines) if line.lstrip().startswith(".size"))]
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    loops = []
    for end, line in enumerate(lines):
        branch = re.match(r"\s+(?:b\.?\w*|cbn?z|tbn?z)\s+(?:.*,\s*)?(\.L\w+)$", line)
        start = labels.get(branch[1], end) if branch else end
        body = [part for part in lines[start:end] if re.match(r"\s+[a-z]", part)]
        if start < end and not any(re.match(r"\s+(?:b|cb|tb)", part) for part in body):
            loops.append([*body, line])
    return max(loops, key=lambda body: sum(bool(re.match(r"\s+(?:fmla|sdot|smull)", part)) for part in body))


def cycles(mca: str, cpu: str, body: list[str]) -> float:
    """Cycles per iteration in the steady state."""
    iterations = 1000
    text = ".Lloop:\n" + "\n".join(re.sub(r"\.L\w+$", ".Lloop", line) for line in body) + "\n"
    report = subprocess.run(
        [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={iterations}"],
        input=text, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    total = re.search(r"Total Cycles:\s+(\d+)", report)
    if total is None:
        raise SystemExit(f"llvm-mca printed no 'Total Cycles':\n{report}")
    return int(total[1]) / iterations


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compiler", default="aarch64-linux-gnu-g++", help="default: %(default)s")
    parser.add_argument("--mca", default="llvm-mca-19", help="llvm-mca 17 or newer; default: %(default)s")
    parser.add_argument("--show", action="store_true", help="print the loops too")
    args = parser.parse_args()
    for program in (args.compiler, args.mca):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        texts = {isa: assembly(args.compiler, isa, Path(folder)) for isa in ISAS}
    bodies = {loop: inner_loop(texts[loop.isa], f"loop_{number}") for number, loop in enumerate(LOOPS)}
    print(
        "| core | instruction set | loop | cycles per entry and vector | operations per cycle | of the peak |"
    )
    print("|---|---|---|---|---|---|")
    for core in CORES:
        for loop, body in bodies.items():
            if loop.isa not in core.isas or (
                loop.isa == "neon" and loop.operations == 32 and "neondot" in core.isas
            ):
                continue
            each = cycles(args.mca, core.cpu, body) / (loop.entries * loop.vectors)
            rate = loop.operations / each
            print(
                f"| {core.cpu} | {loop.isa} | {loop.name} | {each:.2f} | {rate:.1f} "
                f"| {rate / (loop.operations * core.pipes):.0%} |"
            )
    if args.show:
        for loop, body in bodies.items():
            print(f"\n{loop.name}, {loop.isa}:", *body, sep="\n")


if __name__ == "__main__":
    main()
