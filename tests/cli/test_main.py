from __future__ import annotations

import argparse
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aerogel import cli
from aerogel.errors import AerogelError
from aerogel.system import arguments

VERBS = sorted(m.name for m in pkgutil.iter_modules(cli.__path__) if not m.name.startswith("_"))


def aerogel(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aerogel", *argv], capture_output=True, text=True, check=False
    )


def only_line(text: str) -> str:
    """Check that `text` is one line of an error, and return it."""
    assert text.count("\n") == 1, text
    assert text.startswith("aerogel: error: ")
    return text


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    printed = capsys.readouterr().out
    assert {"bench", "demo", "env", "export", "inspect", "sweep", "synth", "train"} <= set(VERBS)
    for verb in VERBS:
        assert re.search(rf"\n    {verb}\s", printed)
    assert "_arguments" not in printed


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([verb, "--help"])
    assert f"usage: aerogel {verb}" in capsys.readouterr().out


def test_help_imports_no_heavy_packages() -> None:
    code = (
        "import contextlib, sys\nfrom aerogel.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'onnxscript', 'scipy', 'rich'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("aerogel 0.")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fly"], "invalid choice: 'fly'"),
        ([], "required: VERB"),
        (["synth"], "required: --arch, --out"),
        (["bench", "m.onnx", "--threads", "many"], "argument --threads: 'many' is not a whole number"),
        (["bench"], "required: MODEL.onnx"),
        (["env", "--yaml"], "unrecognized arguments: --yaml; see aerogel env --help"),
    ],
)
def test_invalid_command_lines(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert words in only_line(capsys.readouterr().err)


@pytest.mark.parametrize("argv", [["env"], ["env", "--json"]])
def test_full_output_device_gives_one_line(argv: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "aerogel", *argv],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "No space left on device" in only_line(done.stderr)


def test_error_exits_with_2_and_no_traceback() -> None:
    done = aerogel("fly")
    assert done.returncode == 2
    only_line(done.stderr)


def test_error_of_several_lines_is_printed_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aerogel.cli import env

    def fail(_: argparse.Namespace) -> None:
        raise AerogelError("first\n  second")

    monkeypatch.setattr(env, "run", fail)
    assert cli.main(["env"]) == 2
    assert only_line(capsys.readouterr().err) == "aerogel: error: first second\n"


def test_other_exceptions_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from aerogel.cli import env

    def fail(_: argparse.Namespace) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(env, "run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["env"])


def test_interrupt_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aerogel.cli import env

    def interrupt(_: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(env, "run", interrupt)
    assert cli.main(["env"]) == 130
    assert capsys.readouterr().err == "aerogel: interrupted\n"


@pytest.mark.parametrize(("text", "shape"), [("4x1", (4, 1)), ("1x1", (1, 1)), ("32x64", (32, 64))])
def test_block_argument(text: str, shape: tuple[int, int]) -> None:
    assert arguments.block(text) == shape


@pytest.mark.parametrize("text", ["4", "4x", "0x1", "4X1", "4x1x1", "-4x1", "", "4 x 1", "٤x1"])
def test_malformed_block_argument(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not ROWSxCOLS"):
        arguments.block(text)
