"""Code in models and datasets is never run: every call that could run it disables that."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aerogel

LOADERS = ("from_pretrained", "from_config", "load_dataset")
PACKAGE = Path(aerogel.__file__).parent


def unsafe(source: str) -> Iterator[int]:
    """Lines of loader calls without ``trust_remote_code=False``, as an argument or in a constant of the module."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or name_of(node.func) not in LOADERS:
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        for keyword in node.keywords:
            if keyword.arg is None and isinstance(keyword.value, ast.Name) and keyword.value.id in constants:
                table = constants[keyword.value.id]
                given |= {
                    ast.literal_eval(key): value
                    for key, value in zip(table.keys, table.values, strict=True)
                    if key
                }
        value = given.get("trust_remote_code")
        if not (isinstance(value, ast.Constant) and value.value is False):
            yield node.lineno


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_no_loader_runs_code_of_a_model_or_dataset() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("A.from_pretrained(p)", [1]),
        ("A.from_pretrained(p, trust_remote_code=True)", [1]),
        ("getattr(t, n).from_config(c, trust_remote_code=flag)", [1]),
        ("O = {'a': 1}\nload_dataset(p, **O)", [2]),
        ("O = {'trust_remote_code': True}\nd.load_dataset(p, **O)", [2]),
        ("O = {'trust_remote_code': False}\nd.load_dataset(p, **O)", []),
        ("A.from_pretrained(p, trust_remote_code=False, **more)", []),
    ],
)
def test_the_check_finds_a_loader_without_the_option(source: str, lines: list[int]) -> None:
    assert list(unsafe(source)) == lines
