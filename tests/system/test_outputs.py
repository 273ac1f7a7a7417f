from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aerogel.errors import OutputError
from aerogel.system.atomic_io import atomic_file, check_output
from aerogel.system.outputs import is_stream


def write(path: Path, text: str = "new") -> None:
    check_output(path)
    with atomic_file(path) as file:
        file.write_text(text)


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_is_kept_and_its_target_written(tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a/middle")
    (tmp_path / "a" / "middle").symlink_to("target")
    if not dangling:
        (tmp_path / "a" / "target").write_text("old")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a" / "middle").is_symlink()
    assert (tmp_path / "a" / "target").read_text() == "new"
    assert len(list(tmp_path.rglob("*"))) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_a_character_device_is_written_into(tmp_path: Path) -> None:
    for name, minor in (("null", 3), ("full", 7)):
        try:
            os.mknod(tmp_path / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            (tmp_path / name).open("wb").close()
        except OSError:
            pytest.skip("no device nodes in this folder")
    write(tmp_path / "null")
    with pytest.raises(OutputError, match=r"full cannot be written \(No space left on device\); free"):
        write(tmp_path / "full")
    assert all(path.is_char_device() for path in tmp_path.iterdir())


def test_sockets_and_circular_links_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
        with pytest.raises(
            OutputError, match=r"^socket is a socket; name a file, a pipe or a character device"
        ):
            write(Path("socket"))
    Path("loop").symlink_to("loop")
    with pytest.raises(OutputError, match=r"^loop is a circular symbolic link"):
        write(Path("loop"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["loop", "socket"]


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are links on Linux only")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_prints_and_writes_to_standard_output_keep_their_order(tmp_path: Path, name: str) -> None:
    code = (
        "import sys; from pathlib import Path; from aerogel.system.atomic_io import *\n"
        "print('before'); check_output(Path(sys.argv[1]))\n"
        "with atomic_file(Path(sys.argv[1])) as file: file.write_text('written\\n')\n"
        "print('after')"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code, name], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nwritten\nafter\n"
    piped = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    assert piped.stdout == "before\nwritten\nafter\n"


def test_is_stream(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_stream(tmp_path / "file")
    assert not is_stream(tmp_path / "missing")
    assert is_stream(Path(os.devnull))
