"""Write docs/architectures.md: which classes of transformers `aerogel export` takes, by exporting tiny random models.

    python tools/architectures.py             # one head of each encoder, all heads of the most common: 10 to 25 minutes
    python tools/architectures.py --all       # all heads of all encoders

Each result is appended to the --work file at once, and a second run continues there; delete the file to start again.
A class that is refused without its weights, such as a decoder, takes a few milliseconds.
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
from aerogel.export.config import ExportConfig
from aerogel.export.kinds import check_kind
from aerogel.export.run import export
from aerogel.hf.load import model_class
from aerogel.hf.quiet import quiet
from aerogel.system.atomic_io import atomic_file

DOCUMENT = Path(__file__).parents[1] / "docs" / "architectures.md"

# The most common encoders; every run tries all of their heads.
COMMON = (
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "gte", "modernbert", "mpnet",
    "nomic_bert", "roberta", "xlm-roberta",
)  # fmt: skip
FUSED, UNFUSED, REFUSED, UNTRIED = "fused", "unfused", "refused", "not tried"


@dataclass(frozen=True)
class Outcome:
    """Result for one class.

    Attributes:
        model_type: model type of transformers.
        head: one of `HEADS`.
        status: FUSED, UNFUSED, REFUSED or UNTRIED.
        reason: message of a refusal, without the name of the class.
        encoder: whether the class is a text encoder; other classes are refused without their weights.
    """

    model_type: str
    head: str
    status: str
    reason: str = ""
    encoder: bool = True


def model_types() -> list[str]:
    """All model types that have a class with one of the heads."""
    return sorted(set().union(*(classes(head) for head in HEADS)))


def refusal(model_type: str, head: str) -> Outcome | None:
    """The outcome of a class that is refused without its weights; None for a text encoder."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        try:
            save_config(Path(folder), model_type, head)
            check_kind(*model_class(Path(folder)))
        except AerogelError as error:
            reason = _without(str(error), classes(head)[model_type], folder)
            return Outcome(
                model_type, head, REFUSED, reason, encoder=reason.startswith(("takes inputs", "takes no"))
            )
    return None


def by_export(model_type: str, head: str) -> Outcome:
    """The outcome of exporting a tiny random model, which includes a comparison with PyTorch."""
    name = classes(head)[model_type]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        with quiet():
            save_model(checkpoint, model_type, head)
        try:
            document = export(ExportConfig(checkpoint=checkpoint, out=Path(folder) / "out" / "model.onnx"))
        except AerogelError as error:
            return Outcome(model_type, head, REFUSED, _without(str(error), name, folder))
    fused = any(found["layers"] and not found["reason"] for found in document["fusions"].values())
    return Outcome(model_type, head, FUSED if fused else UNFUSED)


def _without(message: str, name: str, folder: str) -> str:
    """`message` without the name of the class and the temporary folder."""
    return message.replace(f"{folder}/", "").removeprefix(name).lstrip(" :").replace(name, "the model")


def outcome(model_type: str, head: str) -> Outcome:
    """The outcome of a class."""
    return refusal(model_type, head) or by_export(model_type, head)


def wanted(model_type: str, every: bool) -> list[str]:
    """The heads of a model type that a run exports."""
    found = [head for head in HEADS if model_type in classes(head)]
    if every or model_type in COMMON:
        return found
    return ["sequence"] if "sequence" in found else found[:1]


def render(outcomes: list[Outcome]) -> str:
    """The text of docs/architectures.md."""
    tables: dict[str, dict[str, Outcome]] = {}
    for o in outcomes:
        tables.setdefault(o.model_type, {})[o.head] = o
    encoders = {name: row for name, row in sorted(tables.items()) if any(o.encoder for o in row.values())}
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
    for model_type, row in encoders.items():
        cells = []
        for head in HEADS:
            found = row.get(head)
            cell = found.status if found else ""
            if found and found.reason:
                if found.reason not in notes:
                    notes.append(found.reason)
                cell += f" ({notes.index(found.reason) + 1})"
            cells.append(cell)
        lines.append(f"| {model_type} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    lines += [
        "",
        "## Refused by their kind",
        "",
        "All classes of these model types; the line gives the reason.",
        "",
    ]
    others: dict[str, list[str]] = {}
    for model_type, row in sorted(tables.items()):
        if model_type not in encoders:
            others.setdefault(next(iter(row.values())).reason, []).append(model_type)
    for reason, refused in sorted(others.items(), key=lambda item: -len(item[1])):
        lines += [f"- {reason}: {', '.join(refused)}"]
    return "\n".join(lines) + "\n"


def parse(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Status and reason by (model type, head), from the document; head is "" for types that are refused as a whole."""
    body, _, refused = text.partition("## Refused by their kind")
    notes = dict(line.split(". ", 1) for line in body.splitlines() if line.partition(". ")[0].isdigit())
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for line in body.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or cells[0] == "model type":
            continue
        for head, cell in zip(HEADS, cells[1:], strict=True):
            status, _, note = cell.partition(" (")
            if status:
                found[cells[0], head] = status, notes[note.rstrip(")")] if note else ""
    for line in refused.splitlines():
        if line.startswith("- "):
            reason, _, names = line[2:].rpartition(": ")
            found |= {(model_type, ""): (REFUSED, reason) for model_type in names.split(", ")}
    return found


def main() -> None:
    """Export the classes that have no result yet, then write the document."""
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
    known = {(o.model_type, o.head): o for o in (Outcome(**json.loads(row)) for row in rows)}
    todo = args.only or model_types()
    if unknown := sorted(set(todo) - set(model_types())):
        parser.error(f"--only {unknown[0]}: transformers {transformers.__version__} has no such model type")
    for number, model_type in enumerate(todo, 1):
        for head in (head for head in HEADS if model_type in classes(head)):
            if (model_type, head) in known:
                continue
            start = time.monotonic()
            found = refusal(model_type, head)
            if not found and head not in wanted(model_type, args.all):
                continue
            known[model_type, head] = found = found or by_export(model_type, head)
            with args.work.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
            seconds = time.monotonic() - start
            print(
                f"{number}/{len(todo)} {model_type}, {head}: {found.status} {found.reason} ({seconds:.1f} s)",
                file=sys.stderr,
            )
    if args.only:
        return
    everything = [
        known.get((model_type, head), Outcome(model_type, head, UNTRIED))
        for model_type in todo for head in HEADS if model_type in classes(head)
    ]  # fmt: skip
    with atomic_file(args.out) as temporary:
        temporary.write_text(render(everything), encoding="utf-8")


if __name__ == "__main__":
    main()
