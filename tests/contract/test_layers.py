"""The order of layers: a layer imports only layers before it. Imports inside functions count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aerogel

ROOT = Path(aerogel.__file__).parent
ORDER = (
    "errors", "registry", "system", "sparse", "checkpoint", "hf", "kernels", "runtime", "ops", "cost", "synth",
    "data", "train", "prune", "export", "torch", "inspect", "sweep", "bench", "loadtest", "model", "verify", "bulk",
    "serve", "cli", "__main__",
)  # fmt: skip
"""The layers, lowest first: the modules and packages directly in `aerogel`."""

_OFFLINE = {"train", "prune", "export", "torch", "inspect", "sweep", "synth"}
FORBIDDEN = {
    "export": {"train", "prune"},
    "torch": {"train", "prune", "export"},
    "inspect": {"train", "prune"},
    "bench": {"train", "prune", "export"},
    **dict.fromkeys(("model", "verify", "bulk", "serve", "loadtest"), _OFFLINE),
}
"""Earlier layers that a layer must not import, because they exchange data through files, or need not be installed."""


def imports(source: str, module: str) -> Iterator[str]:
    """Yield the modules of aerogel that `source`, the text of `module`, imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: use absolute imports"
            if node.module == "aerogel":
                yield from (f"aerogel.{alias.name}" for alias in node.names)
            elif node.module and node.module.startswith("aerogel."):
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("aerogel."))


def layer(module: str) -> str | None:
    """The layer of a module; None for the package itself."""
    name = module.split(".")[1] if "." in module else None
    return name if name and ((ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()) else None


def violations(module: str, source: str) -> list[str]:
    """The imports of `module` that break the order."""
    here = layer(module)
    found = []
    for name in imports(source, module):
        there = layer(name)
        if here is None or there is None or here == there:
            continue
        if ORDER.index(there) > ORDER.index(here) or there in FORBIDDEN.get(here, ()):
            found.append(f"{module} imports {name}")
    return found


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT.parent).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path.read_text(encoding="utf-8")


def test_every_import_follows_the_order() -> None:
    assert [line for module, source in modules() for line in violations(module, source)] == []


def test_the_order_lists_every_layer() -> None:
    found = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert found - {"__init__"} == set(ORDER)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("aerogel.sparse.masks", "from aerogel.train.method import Method"),
        ("aerogel.runtime.sessions", "def f():\n    from aerogel import bench"),
        ("aerogel.export.run", "import aerogel.train.config"),
        ("aerogel.system.text", "from aerogel.cli import main"),
    ],
)
def test_an_import_of_a_later_layer_is_found(module: str, line: str) -> None:
    assert len(violations(module, line)) == 1
