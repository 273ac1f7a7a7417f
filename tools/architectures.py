"""Write docs/architectures.md: which classes of transformers `aerogel export` takes, by exporting tiny random models.

    python tools/architectures.py             # one head of each encoder, all heads of the most used: 10 to 25 minutes
    python tools/architectures.py --all       # all heads of all encoders

Each result is kept in --work as soon as there is one; a second run goes on where the first stopped. Delete that file to
try everything again. A class that is refused without its weights, as decoders are, takes a few milliseconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import transformers
from tiny_models import HEADS, classes, save_config, save_model

from aerogel.errors import AerogelError
from aerogel.export.kinds import check_kind
from aerogel.export.run import ExportConfig, export
from aerogel.hf.load import model_class
from aerogel.hf.quiet import quiet
from aerogel.system.atomic_io import atomic_file

DOCUMENT = Path(__file__).parents[1] / "docs" / "architectures.md"

# The most used: all of their heads are tried in every run.
COMMON = (
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "gte", "modernbert", "mpnet",
    "nomic_bert", "roberta", "xlm-roberta",
)  # fmt: skip
FUSED, UNFUSED, REFUSED, UNTRIED = "fused", "unfused", "refused", "not tried"


@dataclass(frozen=True)
class Outcome:
    """What became of one class.

    Attributes:
        kind: model type of transformers.
        head: one of `HEADS`.
        status: FUSED, UNFUSED, REFUSED or UNTRIED.
        why: of a refusal, the message without the name of the class.
        encoder: the class takes text in and gives features or scores; others are refused by their kind.
    """

    kind: str
    head: str
    status: str
    why: str = ""
    encoder: bool = True


def kinds() -> list[str]:
    """All model types that have a class with one of the heads."""
    return sorted(set().union(*(classes(head) for head in HEADS)))


def by_kind(kind: str, head: str) -> Outcome | None:
    """The refusal of a class that needs no weights; None for a text encoder."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        try:
            save_config(Path(folder), kind, head)
            check_kind(*model_class(Path(folder)))
        except AerogelError as error:
            why = _without(str(error), classes(head)[kind], folder)
            return Outcome(kind, head, REFUSED, why, encoder=why.startswith(("takes inputs [", "takes no ")))
    return None


def by_export(kind: str, head: str) -> Outcome:
    """What an export of a tiny random model comes to; its file is compared with PyTorch on the way."""
    name = classes(head)[kind]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        with quiet():
            save_model(checkpoint, kind, head)
        try:
            document = export(ExportConfig(source=checkpoint, out=Path(folder) / "out" / "model.onnx"))
        except AerogelError as error:
            return Outcome(kind, head, REFUSED, _without(str(error), name, folder))
    fused = any(found["layers"] and not found["reason"] for found in document["fusions"].values())
    return Outcome(kind, head, FUSED if fused else UNFUSED)


def _without(message: str, name: str, folder: str) -> str:
    """A message without the name of the class and the temporary folder."""
    return message.replace(f"{folder}/", "").removeprefix(name).lstrip(" :").replace(name, "the model")


def outcome(kind: str, head: str) -> Outcome:
    """What becomes of a class."""
    return by_kind(kind, head) or by_export(kind, head)


def wanted(kind: str, every: bool) -> list[str]:
    """The heads of a model type that a run exports: of those that its kind allows."""
    found = [head for head in HEADS if kind in classes(head) and not by_kind(kind, head)]
    if every or kind in COMMON:
        return found
    return sorted(found, key=lambda head: head != "sequence")[:1]


def render(outcomes: list[Outcome]) -> str:
    """The document."""
    tables = {kind: {o.head: o for o in outcomes if o.kind == kind} for kind in {o.kind for o in outcomes}}
    encoders = {kind: row for kind, row in sorted(tables.items()) if any(o.encoder for o in row.values())}
    notes: list[str] = []
    lines = [
        "# Architectures",
        "",
        f"What `aerogel export` makes of each class of transformers {transformers.__version__}. Written by",
        "`python tools/architectures.py`, which exports tiny random models with pruned matrices: do not edit.",
        "",
        "- **fused**: the outputs agree with PyTorch's, with and without the native library, and the layers run as",
        "  [one node](export.md#the-fused-encoder).",
        "- **unfused**: the same, with a sparse node for each linear layer.",
        "- **refused**: the export stops with one line, which the note gives after the name of the class.",
        "- not tried: the class exists, and this run exported another head of the same encoder. `--all` tries all.",
        "",
        "An empty cell is a class that transformers does not have. Inputs other than `input_ids`, `attention_mask` and",
        "`token_type_ids` (boxes of a page, entities) keep the model's defaults in an exported file.",
        "",
        "## Text encoders",
        "",
        "| model type | " + " | ".join(HEADS) + " |",
        "|---" * (len(HEADS) + 1) + "|",
    ]
    for kind, row in encoders.items():
        cells = []
        for head in HEADS:
            found = row.get(head)
            cell = found.status if found else ""
            if found and found.why:
                if found.why not in notes:
                    notes.append(found.why)
                cell += f" ({notes.index(found.why) + 1})"
            cells.append(cell)
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    lines += [
        "",
        "## Refused by their kind",
        "",
        "No class of these model types can be exported. A type whose classes differ is in several lines.",
        "",
    ]
    others: dict[str, list[str]] = {}
    for kind, row in sorted(tables.items()):
        if kind not in encoders:
            for why in dict.fromkeys(o.why for o in row.values()):
                others.setdefault(why, []).append(kind)
    for why, found_kinds in sorted(others.items(), key=lambda item: -len(item[1])):
        lines += [f"- {why}: {', '.join(found_kinds)}"]
    return "\n".join(lines) + "\n"


def parse(text: str) -> tuple[dict[tuple[str, str], tuple[str, str]], dict[str, set[str]]]:
    """Read a document back.

    Returns:
        Status and reason by (model type, head) for text encoders, and the reasons by model type for other kinds.
    """
    body, _, rest = text.partition("## Refused by their kind")
    notes = dict(line.split(". ", 1) for line in body.splitlines() if line.partition(". ")[0].isdigit())
    cells: dict[tuple[str, str], tuple[str, str]] = {}
    for line in body.splitlines():
        kind, *row = (cell.strip() for cell in line.strip("|").split("|"))
        if line.startswith("| ") and kind != "model type":
            for head, cell in zip(HEADS, row, strict=True):
                status, _, note = cell.partition(" (")
                if status:
                    cells[kind, head] = status, notes[note.rstrip(")")] if note else ""
    refused: dict[str, set[str]] = {}
    for line in rest.splitlines():
        why, _, names = line.removeprefix("- ").rpartition(": ")
        for kind in names.split(", ") if line.startswith("- ") else ():
            refused.setdefault(kind, set()).add(why)
    return cells, refused


def main() -> None:
    """Try what is wanted and not known yet, then write the document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=DOCUMENT, help="the document (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("out/architectures.jsonl"), help="results so far")
    parser.add_argument("--all", action="store_true", help="export all heads of all encoders")
    parser.add_argument(
        "--only", nargs="+", metavar="TYPE", help="try these model types, and write no document"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    args.work.parent.mkdir(parents=True, exist_ok=True)
    rows = args.work.read_text(encoding="utf-8").splitlines() if args.work.exists() else []
    known = {(o.kind, o.head): o for o in (Outcome(**json.loads(row)) for row in rows)}
    todo = args.only or kinds()
    if unknown := sorted(set(todo) - set(kinds())):
        parser.error(f"--only {unknown[0]}: transformers {transformers.__version__} has no such model type")
    for number, kind in enumerate(todo, 1):
        heads = [head for head in HEADS if kind in classes(head) and (kind, head) not in known]
        tried = wanted(kind, args.all) if heads else []
        for head in heads:
            start = time.monotonic()
            found = by_export(kind, head) if head in tried else by_kind(kind, head)
            if not found:
                continue
            known[kind, head] = found
            with args.work.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
            said = f"{kind}, {head}: {found.status} {found.why} ({time.monotonic() - start:.1f} s)"
            print(f"{number}/{len(todo)} {said}", file=sys.stderr)
    if args.only:
        return
    everything = [
        known.get((kind, head), Outcome(kind, head, UNTRIED))
        for kind in todo for head in HEADS if kind in classes(head)
    ]  # fmt: skip
    with atomic_file(args.out) as temporary:
        temporary.write_text(render(everything), encoding="utf-8")


if __name__ == "__main__":
    main()
