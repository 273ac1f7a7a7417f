"""The model card of a hub folder: README.md with a block on the exported files.

The block stands between two markers. A later export replaces what is between them, and nothing else: the rest of an
existing README.md, front matter included, stays byte for byte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aerogel.cost import report
from aerogel.errors import UsageError
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.system.atomic_io import atomic_file
from aerogel.system.json_fields import Either, MalformedJsonError, OneOf, check, read

__all__ = ["CARD_FILE", "check_card", "merged_card", "write_card"]

CARD_FILE = "README.md"
_BEGIN, _END = "<!-- aerogel: begin -->", "<!-- aerogel: end -->"
_LARGEST = 4 << 20  # bytes; the hub's own limit for cards is lower
# What a manifest must have to be in the table.
_COMPARISON = {"relative": float, "drift?": Either({"relative": float}, None)}
_FIELDS = {
    "aerogel": str, "file": str, "bytes": int, "weights": OneOf(*VALUE_TYPES.names()), "density": float,
    "parity": {"onnxruntime": {"bundled": _COMPARISON}, "aerogel?": {"bundled?": _COMPARISON}},
    "prediction": dict, "source": {"kind": str},
}  # fmt: skip
_TIMES = {"stored_us": float, "ratio": float}
_PREDICTION = {
    "encoder": Either(_TIMES, None),
    "linear": _TIMES,
    "batch": int,
    "sequence": int,
    "threads": int,
}
# The task of a hub page, by the end of the model's class.
_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
}


def check_card(card: Path) -> None:
    """Check, before any work, that the block can be inserted.

    Raises:
        UsageError: the card is not UTF-8, is too large, or its markers are not one pair; says what to do.
    """
    if card.exists():
        _parts(_text(card), str(card))


def write_card(folder: Path, base_model: str | None = None) -> None:
    """Insert the block on all exports in ``onnx/`` into README.md of `folder`, or make a new README.md.

    Args:
        folder: the hub folder.
        base_model: hub id of the model that was exported, for the front matter of a new card.

    Raises:
        UsageError: as for `check_card`.
        OutputError: the card cannot be written.
    """
    card = folder / CARD_FILE
    old = _text(card) if card.exists() else None
    new = merged_card(folder, old, base_model)
    if new != old:
        with atomic_file(card) as temporary:
            temporary.write_bytes(new.encode())


def merged_card(folder: Path, old: str | None, base_model: str | None = None) -> str:
    """Text of the card: `old` with the block on the exports in `folder`, or a new card where `old` is None.

    Raises:
        UsageError: the markers in `old` are not one pair.
    """
    block = f"{_BEGIN}\n{_block(folder)}{_END}\n"
    if old is None:
        title = (base_model or folder.resolve().name).rpartition("/")[2]
        return f"{_front_matter(folder, base_model)}\n# {title}\n\n{block}"
    before, after = _parts(old, CARD_FILE)
    if after is None:
        gap = "" if not before or before.endswith("\n\n") else "\n" if before.endswith("\n") else "\n\n"
        return before + gap + block
    return before + block + after


def _text(card: Path) -> str:
    try:
        if card.stat().st_size > _LARGEST:
            raise UsageError(f"{card} is larger than {_LARGEST:,} bytes; choose another folder for --out")
        # Not read_text, which would turn CR LF into LF.
        return card.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{card} is not UTF-8 at byte {error.start}; correct it") from error
    except OSError as error:
        raise UsageError(f"cannot read {card} ({error.strerror}); check its permissions") from error


def _parts(text: str, name: str) -> tuple[str, str | None]:
    """The text before and after the block; without markers, the whole text and None."""
    if (text.count(_BEGIN), text.count(_END)) == (0, 0):
        return text, None
    before, _, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if (text.count(_BEGIN), text.count(_END)) != (1, 1) or not end:
        raise UsageError(
            f"{name} must have one `{_BEGIN}` and after it one `{_END}`, or neither; correct the markers"
        )
    return before, after.removeprefix("\r").removeprefix("\n")


def _manifests(folder: Path) -> list[dict[str, Any]]:
    """Manifests of the exports in ``onnx/``; other files of such names are skipped."""
    found = []
    for file in sorted((folder / "onnx").glob("*.manifest.json")):
        try:
            document = read(file, _FIELDS)
        except (OSError, MalformedJsonError):
            continue
        # Its name goes into the card's text.
        if document["file"] == file.name.removesuffix(".manifest.json") + ".onnx":
            found.append(document)
    return found


def _front_matter(folder: Path, base_model: str | None) -> str:
    """YAML that the hub's pages read. The licence is the user's to add."""
    kinds = {document["source"]["kind"] for document in _manifests(folder)}
    embedder = "sentence-transformers" in kinds
    lines = [f"library_name: {'sentence-transformers' if embedder else 'transformers'}"]
    try:
        names = read(folder / "config.json", {"architectures": [str]})["architectures"]
    except (OSError, MalformedJsonError):
        names = []
    task = next((task for end, task in _TASKS.items() if names and names[0].endswith(end)), None)
    if embedder or task:
        lines.append(f"pipeline_tag: {task or 'sentence-similarity'}")
    if base_model:
        lines.append(f"base_model: {json.dumps(base_model)}")
    return "\n".join(["---", *lines, "tags:", "- onnx", "- aerogel", "- sparse", "---", ""])


def _block(folder: Path) -> str:
    documents = _manifests(folder)
    rows = "\n".join(map(_row, documents))
    first = documents[0]["file"] if documents else "model_sparse.onnx"
    name = first.removesuffix(".onnx")
    speeds = "\n".join(f"- `onnx/{document['file']}`: {_speed(document)}." for document in documents)
    return f"""## Sparse and int8 ONNX files for CPUs

Written and verified by `aerogel export`. The files run on any ONNX Runtime from 1.17 on, at dense speed. With Aerogel's
native library registered, they run on its sparse and int8 kernels.

| file | size | weights | density of the encoder's matrices | largest difference from the original |
|---|---:|---|---:|---:|
{rows}

{speeds}

Run a file on texts:

```python
import aerogel

model = aerogel.load("FOLDER", name="{name}")  # a download of this repository
```

Run it in ONNX Runtime, or in anything that takes its session options:

```python
import aerogel, onnxruntime

options = aerogel.session_options(library=True)  # registers the native library
session = onnxruntime.InferenceSession("FOLDER/onnx/{first}", options)
```

{_usage(folder, first)}"""


def _usage(folder: Path, file: str) -> str:
    """How sentence-transformers loads the file, where it can."""
    if not (folder / "modules.json").is_file():
        return ""
    return f"""Run it in sentence-transformers (`pip install sentence-transformers[onnx]`):

```python
import aerogel
from sentence_transformers import SentenceTransformer

options = aerogel.session_options(library=True)
model = SentenceTransformer(
    "FOLDER", backend="onnx", model_kwargs={{"file_name": "onnx/{file}", "session_options": options}}
)
```

"""


def _row(document: dict[str, Any]) -> str:
    worst = 0.0
    for runner in ("onnxruntime", "aerogel"):
        bundled = document["parity"].get(runner, {}).get("bundled")
        # Of rounded weights, the distance from the unrounded model counts.
        for comparison in (bundled, bundled and bundled.get("drift")):
            worst = max(worst, comparison["relative"] if comparison else 0.0)
    return (
        f"| `onnx/{document['file']}` | {document['bytes'] / 1e6:.1f} MB | {document['weights']} | "
        f"{document['density']:.1%} | {worst:.1g} of the largest value |"
    )


def _speed(document: dict[str, Any]) -> str:
    """Predicted speed, or how to measure it."""
    try:
        prediction = check(document["prediction"], _PREDICTION)
    except MalformedJsonError:
        return f"speed not predicted; measure it with `aerogel bench onnx/{document['file']}`"
    part = "encoder" if prediction["encoder"] else "linear"
    times = prediction[part]
    return (
        f"{'encoder' if part == 'encoder' else 'linear layers'} predicted to take {times['stored_us'] / 1e3:.3g} ms, "
        f"{times['ratio']:.2f} times as fast as dense; {report.workload(prediction)}"
    )
