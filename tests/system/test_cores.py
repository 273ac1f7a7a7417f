from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aerogel.system import cores as module
from aerogel.system.cores import cores, physical_cores, thread_variables

KEPT = {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "8", "OMP_NUM_THREADS": "3", "RAYON_NUM_THREADS": "5"}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a fake machine with 8 logical processors, two per core."""
    monkeypatch.setattr(module, "_allowed", lambda: set(range(8)))
    for cpu in range(8):
        write(
            tmp_path,
            f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list",
            f"{cpu % 4},{cpu % 4 + 4}\n",
        )
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="ascii")


def test_affinity_is_the_limit_without_a_quota(machine: Path) -> None:
    assert (cores(machine), physical_cores(machine)) == (8, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("", 8), ("1 0", 8)],
)
def test_cgroup_v2_quota(machine: Path, text: str, expected: int) -> None:
    write(machine, "proc/self/cgroup", "0::/a/b\n")
    write(machine, "sys/fs/cgroup/a/b/cpu.max", text)
    assert cores(machine) == expected
    assert physical_cores(machine) == min(expected, 4)


def test_the_smallest_quota_of_all_ancestors_is_the_limit(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "0::/a/b\n")
    for name, text in (
        ("cpu.max", "max 100000"),
        ("a/cpu.max", "300000 100000"),
        ("a/b/cpu.max", "600000 100000"),
    ):
        write(machine, f"sys/fs/cgroup/{name}", text)
    assert cores(machine) == 3


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("400000", 4)])
def test_cgroup_v1_quota(machine: Path, mount: str, quota: str, expected: int) -> None:
    write(machine, "proc/self/cgroup", f"9:memory:/x\n3:cpuset:/\n2:{mount}:/job\n0::/\n")
    write(machine, f"sys/fs/cgroup/{mount}/job/cpu.cfs_quota_us", f"{quota}\n")
    write(machine, f"sys/fs/cgroup/{mount}/job/cpu.cfs_period_us", "100000\n")
    assert cores(machine) == expected


def test_a_container_that_sees_the_host_group_names(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "2:cpu:/docker/0123\n0::/docker/0123\n")
    write(machine, "sys/fs/cgroup/cpu.max", "500000 100000")
    assert cores(machine) == 5
    write(machine, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
    write(machine, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cores(machine) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_follow_the_affinity_of_this_process() -> None:
    code = "from aerogel.system.cores import cores, physical_cores; print(cores(), physical_cores())"
    one = next(iter(os.sched_getaffinity(0)))
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{one}}}); {code}"],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "1"]
    assert 1 <= physical_cores() <= cores() <= len(os.sched_getaffinity(0))


def test_thread_counts_are_set_only_under_a_quota(machine: Path) -> None:
    assert thread_variables({}, root=machine) == {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}
    write(machine, "proc/self/cgroup", "0::/\n")
    write(machine, "sys/fs/cgroup/cpu.max", "400000 100000")
    found = thread_variables({}, root=machine)
    assert found.items() >= {"OMP_NUM_THREADS": "4", "RAYON_NUM_THREADS": "4"}.items()
    shared = thread_variables({}, processes=3, root=machine)
    assert shared.items() >= {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}.items()


@pytest.mark.parametrize("kept", [KEPT, KEPT | {"GOMP_SPINCOUNT": ""}])
def test_variables_of_the_user_are_kept(machine: Path, kept: dict[str, str]) -> None:
    assert thread_variables(kept, processes=8, root=machine) == {}


def test_a_wait_policy_of_the_user_is_kept(machine: Path) -> None:
    assert thread_variables({"OMP_WAIT_POLICY": "active"}, root=machine) == {}


def test_user_environment_excludes_variables_set_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_own", set())
    monkeypatch.setattr(module, "thread_variables", lambda *_: {"OMP_NUM_THREADS": "2"})
    # monkeypatch restores both.
    monkeypatch.setenv("KMP_BLOCKTIME", "9")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    module.set_thread_variables()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in module.user_environment()
    assert module.user_environment()["KMP_BLOCKTIME"] == "9"


@pytest.mark.parametrize(
    "begin",
    ["import aerogel.train", "import aerogel.cli; aerogel.cli.main(['synth', '--arch', '?', '--out', 'x'])"],
)
@pytest.mark.parametrize(("given", "expected"), [({}, "2000"), ({"GOMP_SPINCOUNT": "5"}, "5")])
def test_openmp_reads_the_variables(tmp_path: Path, begin: str, given: dict[str, str], expected: str) -> None:
    """The GNU OpenMP library of PyTorch prints its settings when it is loaded."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).parent / "lib/libgomp.so.1"
    if not library.exists():
        pytest.skip("this PyTorch uses another OpenMP library")
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = f"{begin}\nimport ctypes; ctypes.CDLL({str(library)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path,
        env=environment | {"OMP_DISPLAY_ENV": "verbose"} | given, stderr=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert f"GOMP_SPINCOUNT = '{expected}'" in done.stderr
