from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aerogel
from aerogel.errors import UsageError
from aerogel.registry import Registry


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    """A registry with the entries "one" and "two-three", whose package cannot be imported."""
    package = tmp_path / "broken_plugins"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in ("two_three", "one", "_private"):
        (package / f"{name}.py").write_text("ENTRY = __name__")
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("plug-in", "broken_plugins", "ENTRY")


def test_names_do_not_import_torch() -> None:
    code = (
        "import sys; from aerogel.registry import Registry;"
        "print(Registry('method', 'aerogel.train.methods', 'METHOD').names(),"
        "'torch' in sys.modules, 'aerogel.train.methods' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folder = Path(aerogel.__file__).parent / "train" / "methods"
    files = (file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    expected = sorted(name.replace("_", "-") for name in files)
    assert "soft-movement" in expected
    assert done.stdout.strip() == f"{expected} False False"


def test_names_do_not_import_the_package(plugins: Registry[str]) -> None:
    assert plugins.names() == ["one", "two-three"]
    with pytest.raises(RuntimeError, match="imported"):
        plugins.get("one")


def test_unknown_names_list_all_and_suggest_the_nearest(plugins: Registry[str]) -> None:
    with pytest.raises(
        UsageError, match="unknown plug-in 'two-tree'; known: one, two-three; did you mean two-three"
    ):
        plugins.get("two-tree")
    assert plugins.module("two-three") == "broken_plugins.two_three"


@pytest.mark.parametrize("package", ["aerogel.no_such_package", "aerogel.registry"])
def test_a_missing_package_is_an_error(package: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"no package {package}"):
        Registry("method", package, "METHOD").names()
