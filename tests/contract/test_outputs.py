"""Contract of every output flag: devices, pipes and links are kept, and inputs are never overwritten."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import pkgutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import aerogel
from aerogel import cli
from aerogel.cli import main
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.system import arguments

QUICK = ["--rounds", "2", "--repeats", "2", "--seq", "6"]
# Flags for folders, whose files are written through the same functions.
FOLDERS = {"--plots", "--tensorboard"}


def flags() -> set[tuple[str, str]]:
    """(verb, flag) of every output, from the parsers."""
    found = set()
    for module in pkgutil.iter_modules(cli.__path__):
        if module.name.startswith("_"):
            continue
        parser = argparse.ArgumentParser()
        importlib.import_module(f"aerogel.cli.{module.name}").add_arguments(parser)
        for action in parser._actions:
            if action.type is arguments.output:
                found.add((module.name, action.option_strings[0]))
    return found


# Command lines that write one file, without the flag; CKPT, MODEL and DATA are replaced by paths, URL by a server.
COMMANDS = {
    ("inspect", "--json"): ["CKPT"],
    ("inspect", "--html"): ["CKPT"],
    ("export", "--json"): ["CKPT", "--out", "OUT/m.onnx"],
    ("verify", "--json"): ["SERVED"],
    ("bench", "--json"): ["MODEL", *QUICK],
    ("bench", "--markdown"): ["MODEL", *QUICK],
    ("bench", "--plot"): ["MODEL", *QUICK],
    ("loadtest", "--json"): ["URL", "--rate", "20", "--seconds", "0.2", "--warmup", "0"],
    ("loadtest", "--plot"): ["URL", "--rate", "20", "--seconds", "0.2", "--warmup", "0"],
    ("train", "--log"): [
        "--task", "sst2", "--data", "DATA", "--model", "DENSE", "--out", "OUT/c", "--epochs", "1", "--max-length", "32",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def answering() -> Iterator[str]:
    """URL of a server that answers every request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def run(
    tmp_path: Path,
    tiny_checkpoint: Callable[..., Path],
    token_model: Callable[..., Path],
    sentiment: Callable[..., Path],
    answering: str,
) -> Callable[[str, str, Path], int]:
    def made(word: str) -> str:
        if word == "URL":
            return answering
        if word == "CKPT":
            return str(tiny_checkpoint("bert", num_hidden_layers=1))
        if word == "DENSE":
            return str(tiny_checkpoint("bert", num_hidden_layers=1, density=1.0))
        if word == "MODEL":
            (tmp_path / "config.json").write_text('{"vocab_size": 50}')
            return str(token_model("dense.onnx"))
        if word == "SERVED":
            export(ExportConfig(tiny_checkpoint("bert", num_hidden_layers=1), tmp_path / "served" / "m.onnx"))
            return str(tmp_path / "served")
        return str(sentiment()) if word == "DATA" else word.replace("OUT", str(tmp_path / "out"))

    def run(verb: str, flag: str, path: Path) -> int:
        return main([verb, *map(made, COMMANDS[verb, flag]), flag, str(path)])

    return run


def test_this_file_lists_every_output_flag() -> None:
    """`pretrain --log` is the same code as `train --log`; flags for folders refuse files."""
    assert {item for item in flags() if item[1] not in FOLDERS | {"--out"}} == {
        *COMMANDS,
        ("pretrain", "--log"),
    }
    assert {verb for verb, flag in flags() if flag == "--out"} == {
        "demo", "export", "pretrain", "prune", "run", "sweep", "synth", "train",
    }  # fmt: skip


@pytest.mark.parametrize(("verb", "flag"), sorted(COMMANDS))
def test_outputs_write_into_pipes_and_follow_links(
    tmp_path: Path, run: Callable[[str, str, Path], int], verb: str, flag: str
) -> None:
    ending = ".png" if flag == "--plot" else ".txt"
    pipe, link, target = (tmp_path / f"{name}{ending}" for name in ("pipe", "link", "target"))
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert run(verb, flag, pipe) == 0
    reader.join(timeout=20)
    assert len(read[0]) > 20
    assert pipe.is_fifo()
    link.symlink_to(target.name)
    assert run(verb, flag, link) == 0
    assert link.is_symlink()
    assert target.stat().st_size > 20


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("train", ["--task", "sst2", "--data", "DATA", "--model", "CKPT", "--out", "CKPT"]),
        ("pretrain", ["--text", "TEXT", "--steps", "1", "--model", "CKPT", "--out", "CKPT"]),
        ("export", ["CKPT", "--out", "OUT/m.onnx", "--json", "HARD"]),
        ("inspect", ["CKPT", "--json", "HARD"]),
        ("inspect", ["CKPT", "--html", "LINK"]),
        ("inspect", ["CKPT", "--dense", "CKPT", "--text", "TEXT", "--html", "TEXT"]),
        ("bench", ["MODEL", "--json", "MODEL"]),
    ],
)
def test_outputs_never_overwrite_inputs(
    tmp_path: Path,
    tiny_checkpoint: Callable[..., Path],
    token_model: Callable[..., Path],
    sentiment: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    verb: str,
    words: list[str],
) -> None:
    checkpoint = tiny_checkpoint("bert", num_hidden_layers=1)
    hard, link, text = tmp_path / "hard", tmp_path / "link", tmp_path / "text"
    hard.hardlink_to(checkpoint / "config.json")
    link.symlink_to(checkpoint / "config.json")
    text.write_text("the film\n\nwas good\n")
    known = {"CKPT": checkpoint, "HARD": hard, "LINK": link, "TEXT": text, "OUT": tmp_path / "out"}
    before = (checkpoint / "config.json").read_bytes(), text.read_bytes()
    made = [
        str(token_model("dense.onnx")) if word == "MODEL"
        else str(sentiment()) if word == "DATA"
        else str(known.get(word, word.replace("OUT", str(tmp_path / "out")))) for word in words
    ]  # fmt: skip
    try:
        capsys.readouterr()
        assert main([verb, *made]) == 2
        said = capsys.readouterr().err
        assert "would overwrite" in said or "lies in" in said
        assert said.count("\n") == 1
        assert ((checkpoint / "config.json").read_bytes(), text.read_bytes()) == before
    finally:
        hard.unlink()


WRITING = {"write_text", "write_bytes", "savefig", "save_file", "save_pretrained"}


def test_every_write_goes_to_a_temporary_path() -> None:
    """Every call that writes is inside a block that yields a temporary path, or in a function that is passed one."""
    given = {"folder", "path", "stream"}  # parameters of functions that such a block calls
    for file in Path(aerogel.__file__).parent.rglob("*.py"):
        tree = ast.parse(file.read_text())
        safe = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.With):
                source = " ".join(ast.unparse(item.context_expr) for item in node.items)
                if any(word in source for word in ("atomic_", "TemporaryDirectory", "staging")):
                    safe |= set(map(id, ast.walk(node)))
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            name = node.func.attr
            opens = name == "open" and any(
                isinstance(word, ast.Constant) and str(word.value)[:1] in ("w", "a", "x")
                for word in node.args[:1]
            )
            if (name in WRITING or opens) and id(node) not in safe:
                words = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                known = bool(words & given) or (file.name, name) == ("log.py", "open")
                assert known, f"{file}:{node.lineno} writes past aerogel/system/atomic_io.py"
