from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path

import pytest

from aerogel.runtime.memory import drop_read_pages, return_freed_memory

PAGE = mmap.PAGESIZE
linux = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux only")


def resident(path: Path) -> int:
    """RSS of a file's mappings in KiB."""
    total, matches = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"^[0-9a-f]+-[0-9a-f]+ ", line):
            matches = line.endswith(" " + str(path))
        elif matches and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@linux
def test_dropped_pages_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights with a blank"
    path.write_bytes(bytes(range(256)) * 4096)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        assert sum(mapped[::PAGE]) == 0
        assert resident(path) == 1024
        drop_read_pages(path)
        assert resident(path) == 0
        assert mapped[:] == path.read_bytes()


@linux
def test_a_mapping_with_a_modified_page_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 8 * PAGE)
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, writable) as changed:
        changed[3 * PAGE] = ord("b")
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as clean:
            assert clean[:1] == b"a"
            before = resident(path)
            drop_read_pages(path)
            assert changed[3 * PAGE] == ord("b")
            assert 0 < resident(path) < before


def test_nothing_fails_without_glibc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    return_freed_memory()
    drop_read_pages(tmp_path)
