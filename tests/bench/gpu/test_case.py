from __future__ import annotations

import pytest
import torch

from aerogel.bench.gpu.case import cases, small
from aerogel.bench.gpu.kernel import gpu_kernels
from aerogel.bench.gpu.scenario import SCENARIOS, make_layer, output_error
from aerogel.bench.gpu.tune import rows, tuning_cases
from aerogel.torch.cuda.table import Measured


def test_cases_are_known_to_the_registries() -> None:
    for case in (*cases(), *tuning_cases()):
        assert case.scenario in SCENARIOS.names()
        if case.scenario == "product":
            assert set(case.kernels) <= set(gpu_kernels())
            assert {name for target in case.targets for name in (target.kernel, target.against)} <= set(
                case.kernels
            )


def test_names_are_unique_and_cases_with_targets_come_first() -> None:
    names = [case.name for case in (*cases(), *tuning_cases())]
    assert len(set(names)) == len(names)
    assert names[0].startswith("encoder")
    targets = [bool(case.targets) for case in cases()]
    assert all(targets[:16])


@pytest.mark.parametrize("case", [c for c in cases() if c.scenario == "product"], ids=lambda c: c.name)
def test_layers_have_the_mask_of_the_case(case: object) -> None:
    case = small(case)  # type: ignore[arg-type]
    layer = make_layer(case, torch.device("cpu"))
    assert torch.equal(layer.weight != 0, torch.from_numpy(layer.mask))
    if case.nm:
        assert (layer.mask.reshape(64, 32, 4).sum(2) == 2).all()
    else:
        assert layer.mask.mean() == pytest.approx(case.density, abs=0.02)
        r, c = case.block
        assert len(set(layer.mask.reshape(64 // r, r, 128 // c, c).sum((1, 3)).ravel())) == 2


def test_output_errors() -> None:
    y = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert output_error(y.float(), y, "float32") is None
    assert output_error(y.float() + 0.01, y, "float32") == "wrong: relative error 5.0e-03"
    assert output_error(y.float() * torch.nan, y, "bfloat16") == "wrong: relative error nan"
    assert output_error(y[:1], y, "float32") == "wrong: shape [1], not [2]"


def test_the_table_has_the_measured_cases() -> None:
    known = {case.name: case for case in tuning_cases()}
    name = "tune bsr 32x32 3072x768 4096 0.1"
    found = {
        name: {"rows": {"dense": {"ms": 2.0}, "aerogel-bsr": {"ms": 0.5}}},
        "tune csr 1x1 768x768 1 0.05": {"rows": {"dense": {"ms": 2.0}, "aerogel-csr": {"error": "x"}}},
        "tune csr 1x1 768x768 1 0.1": {"error": "died"},
        "unknown": {"rows": {}},
    }
    assert list(rows(known, found)) == [Measured("bsr", (32, 32), "float16", (3072, 768), 4096, 0.1, 0.25)]
