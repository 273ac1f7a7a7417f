"""Write docs/exporters.md: what `aerogel export` makes of the .onnx files of other exporters, from tiny random models.

    python tools/exporters.py
    python tools/exporters.py --files DIR     # a row more for each EXPORTER/MODEL.onnx in DIR

The files of exporters that need another transformers, such as optimum, are made beforehand and given by --files.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import transformers
from tiny_models import save_model

from aerogel.errors import AerogelError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.hf.quiet import quiet
from aerogel.system.atomic_io import atomic_file

__all__ = ["DOCUMENT", "EXPORTERS", "KINDS", "outcome", "render", "write"]

DOCUMENT = Path(__file__).parents[1] / "docs" / "exporters.md"
KINDS = ("bert", "distilbert", "electra", "roberta", "xlm-roberta", "mpnet")
FUSED, UNFUSED, REFUSED = "fused", "unfused", "refused"

Make = Callable[[torch.nn.Module, tuple[str, ...], Path], None]


def _example(names: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    ids, mask = torch.randint(5, 40, (2, 7)), torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return tuple(made[name] for name in names)


def _torchscript(opset: int) -> Make:
    def make(module: torch.nn.Module, names: tuple[str, ...], path: Path) -> None:
        axes = {name: {0: "batch", 1: "sequence"} for name in (*names, "last_hidden_state")}
        torch.onnx.export(
            module, _example(names), str(path), dynamo=False, opset_version=opset, input_names=list(names),
            output_names=["last_hidden_state"], dynamic_axes=axes,
        )  # fmt: skip

    return make


def _dynamo(module: torch.nn.Module, names: tuple[str, ...], path: Path) -> None:
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    torch.onnx.export(
        module, _example(names), str(path), dynamo=True, external_data=False, opset_version=18, verbose=False,
        input_names=list(names), output_names=["last_hidden_state"], dynamic_shapes=((dims,) * len(names),),
    )  # fmt: skip


def _optimized(**options: Any) -> Make:
    """ONNX Runtime's optimizer over a TorchScript export; `options` of its FusionOptions, or `half`."""
    half = options.pop("half", False)

    def make(module: torch.nn.Module, names: tuple[str, ...], path: Path) -> None:
        from onnxruntime.transformers import optimizer
        from onnxruntime.transformers.fusion_options import FusionOptions

        _torchscript(14)(module, names, path)
        chosen = FusionOptions("bert")
        for name, value in options.items():
            setattr(chosen, name, value)
        model = optimizer.optimize_model(
            str(path), "bert", num_heads=2, hidden_size=32, opt_level=0, optimization_options=chosen
        )
        if half:
            model.convert_float_to_float16(keep_io_types=True)
        model.save_model_to_file(str(path))

    return make


EXPORTERS: dict[str, tuple[str, Make]] = {
    "TorchScript, opset 11, eager attention": ("eager", _torchscript(11)),
    "TorchScript, opset 14, eager attention": ("eager", _torchscript(14)),
    "TorchScript, opset 17, eager attention": ("eager", _torchscript(17)),
    "TorchScript, opset 14, sdpa": ("sdpa", _torchscript(14)),
    "TorchScript, opset 17, sdpa": ("sdpa", _torchscript(17)),
    "torch.export, opset 18, eager attention": ("eager", _dynamo),
    "torch.export, opset 18, sdpa": ("sdpa", _dynamo),
    "ONNX Runtime optimizer": ("eager", _optimized()),
    "ONNX Runtime optimizer, no EmbedLayerNormalization": (
        "eager",
        _optimized(enable_embed_layer_norm=False),
    ),
    "ONNX Runtime optimizer, half precision": ("sdpa", _optimized(half=True)),
}
"""The exporters, by the name of their row: the attention of transformers, and what writes the file."""


class _Positional(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=False)[0]


def write(kind: str, exporter: str, path: Path) -> None:
    """Write the file that an exporter makes of a tiny random model with pruned matrices."""
    attention, make = EXPORTERS[exporter]
    with tempfile.TemporaryDirectory() as folder, quiet(), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        save_model(Path(folder), kind, "plain")
        if kind == "mpnet":
            attention = "eager"  # all that it has
        model = transformers.AutoModel.from_pretrained(folder, attn_implementation=attention).eval()
        segments = ("token_type_ids",) if kind in ("bert", "electra") else ()
        names = ("input_ids", "attention_mask", *segments)
        make(_Positional(model, names), names, path)


def outcome(path: Path) -> tuple[str, str]:
    """What an export of a file comes to, and why it is not fused or refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            document = export(ExportConfig(path, Path(folder) / "out" / "model.onnx"))
        except AerogelError as error:
            return REFUSED, str(error).replace(str(path), "the file")
    (fused,) = document["fusions"].values()
    if fused["layers"] == fused["found"] and fused["layers"]:
        return FUSED, ""
    return UNFUSED, fused["reason"].replace("\n", " ")


def render(rows: dict[str, dict[str, tuple[str, str]]]) -> str:
    """The document, from outcomes by exporter and model."""
    notes: list[str] = []
    lines = [
        "# Exporters",
        "",
        "What `aerogel export FILE.onnx` makes of the files of other exporters. Written by `python tools/exporters.py`",
        f"with transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]} and onnx "
        f"{onnx.__version__}, from tiny random models with pruned matrices: do not edit.",
        "",
        "- **fused**: the outputs agree with those of the file on stock ONNX Runtime, and all layers run as",
        "  [one node](export.md#the-fused-encoder).",
        "- **unfused**: the same, with a sparse node for each linear layer; the note says why.",
        "- **refused**: the export stops with one line, which is the note.",
        "",
        f"| exporter | {' | '.join(KINDS)} |",
        "|---" * (1 + len(KINDS)) + "|",
    ]
    for exporter, row in rows.items():
        cells = []
        for kind in KINDS:
            status, why = row.get(kind, ("", ""))
            if why and why not in notes:
                notes.append(why)
            cells.append(f"{status} ({notes.index(why) + 1})" if why else status)
        lines.append(f"| {exporter} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Make every file, export it, and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=Path, help="folder of EXPORTER/MODEL.onnx")
    args = parser.parse_args()
    rows: dict[str, dict[str, tuple[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for exporter in EXPORTERS:
            for kind in KINDS:
                path = Path(folder) / "model.onnx"
                write(kind, exporter, path)
                rows.setdefault(exporter, {})[kind] = outcome(path)
                print(exporter, kind, *rows[exporter][kind], flush=True)
    for path in sorted(args.files.glob("*/*.onnx")) if args.files else ():
        rows.setdefault(path.parent.name, {})[path.stem] = outcome(path)
    with atomic_file(DOCUMENT) as temporary:
        temporary.write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
