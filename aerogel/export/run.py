"""The export stage from end to end: checkpoint in, verified artifact out, or nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel import checkpoint as checkpoints
from aerogel.export import layout, parity
from aerogel.export.manifest import manifest
from aerogel.export.plan import make_plan
from aerogel.export.target import TARGETS
from aerogel.export.texts import read_texts
from aerogel.kernels.cpu.native import check_selection

if TYPE_CHECKING:
    from aerogel.export.source import Source

__all__ = ["ExportConfig", "export"]


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and how.

    Attributes:
        checkpoint: a masked checkpoint directory.
        out: the artifact to write.
        target: kind of artifact.
        format: storage of the pruned matrices, or "dense".
        block: (rows, cols) of stored blocks; the checkpoint's own if None.
        max_density: stored fraction above which a matrix stays dense; the format's break-even if None.
        inline: put the functions' bodies in place of their calls.
        fuse: make one node of an encoder that a fusion recognises.
        force: overwrite files that are not of an earlier export.
        verify_text: compare outputs over every line of this file as well.
    """

    checkpoint: Path
    out: Path
    target: str = "onnx"
    format: str = "csr"
    block: tuple[int, int] | None = None
    max_density: float | None = None
    inline: bool = False
    fuse: bool = True
    force: bool = False
    verify_text: Path | None = None


def export(
    config: ExportConfig, progress: Callable[[str, int, int], None] = lambda *_: None
) -> dict[str, Any]:
    """Export a checkpoint, verify the artifact, and only then put it in place.

    Args:
        config: what to do.
        progress: told (stage, steps done, steps in all).

    Returns:
        The manifest, as written beside the artifact.

    Raises:
        AerogelError: a subclass that says what is wrong; nothing has been written then.
    """
    target = TARGETS.get(config.target)
    checkpoint = checkpoints.load(config.checkpoint)
    layout.check_out(config.out, target.suffix, checkpoint.path, force=config.force)
    texts = read_texts(config.verify_text) if config.verify_text else None
    check_selection()
    plan = make_plan(checkpoint, config.format, config.block, config.max_density)

    # Imported late: what is above needs no torch, and fails at once where the request is wrong.
    from aerogel.export.capture import capture
    from aerogel.export.fusion import fuse
    from aerogel.export.rewrite import attach_functions, rewrite
    from aerogel.export.simplify import simplify
    from aerogel.export.source import load_source

    progress("capture", 0, 1)
    source = load_source(checkpoint.path)
    model = capture(source)
    progress("capture", 1, 1)
    rewrite(model, plan)
    simplify(model)
    attach_functions(model, plan)
    fusions = fuse(model) if config.fuse else {}
    with layout.staging(config.out) as folder:
        artifact = folder / config.out.name
        details = target.write(model, artifact, inline=config.inline)
        runners = target.runners(artifact)
        details["fusions"] = {name: asdict(fused) for name, fused in fusions.items()}
        tokens = details["inputs"][0]["shape"][1]
        per_token = {value["name"] for value in details["outputs"] if value["shape"][1:2] == [tokens]}
        checked = _verify(source, runners, texts, per_token, progress)
        document = manifest(checkpoint, plan, config, artifact, details, checked, source.max_length)
        layout.place(artifact, document, checkpoint.path, config.out)
    return document


def _verify(
    source: Source,
    runners: Mapping[str, parity.Runner | str],
    texts: tuple[list[str], list[str] | None] | None,
    per_token: Collection[str],
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Compare over the bundled texts, and over a file's if there is one: per runner the results, or why not."""
    usable = {name: run for name, run in runners.items() if not isinstance(run, str)}
    inputs = {"bundled": list(parity.batches(source))}
    if texts:
        inputs["file"] = list(parity.text_batches(source, *texts))
    total = sum(map(len, inputs.values()))
    steps = itertools.count(1)

    def told(batches: list[parity.Batch]) -> Iterator[parity.Batch]:
        for batch in batches:
            yield batch
            progress("verify", next(steps), total)

    report: dict[str, Any] = {
        name: {"not_checked": run} if isinstance(run, str) else {} for name, run in runners.items()
    }
    for kind, batches in inputs.items():
        for name, comparison in parity.compare(source, told(batches), usable, per_token).items():
            report[name][kind] = asdict(comparison)
    return report
