"""Export a model from Python: python examples/export_from_python.py MODEL FILE.onnx [fp32|fp16|int8].

MODEL is a transformers or sentence-transformers directory, a hub id, or an .onnx file, dense or pruned.
"""

from __future__ import annotations

import sys
from pathlib import Path

import aerogel


def main(model: str, out: str, weights: str = "int8") -> None:
    """Export, then print what the manifest says: size, densities, largest difference from the original."""
    manifest = aerogel.export_model(aerogel.ExportConfig(model, Path(out), weights=weights))
    print(f"{out}: {manifest['bytes']:,} bytes, density of the encoder's matrices {manifest['density']:.1%}")
    for name, result in manifest["parity"].items():
        if isinstance(result, dict) and "bundled" in result:
            found = result["bundled"]
            print(f"{name}: {found['texts']} texts, largest difference {found['difference']:.2g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
