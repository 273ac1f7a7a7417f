from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.errors import FormatError, RuntimeLoadError, UsageError
from aerogel.kernels.cpu.library import LIBRARY_VARIABLE
from aerogel.sparse.formats import FORMATS
from aerogel.torch import SparseLinear, packed

Factory = Callable[..., nn.Linear]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-5)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one whenever a matrix is packed."""
    made: list[int] = []
    create = packed.native.SparseLinear
    monkeypatch.setattr(packed.native, "SparseLinear", lambda *args: made.append(1) or create(*args))
    return made


def test_hand_worked_matrix() -> None:
    arrays = {
        "data": torch.tensor([2.0, 3.0, 5.0]),
        "indices": torch.tensor([0, 2, 1], dtype=torch.int32),
        "indptr": torch.tensor([0, 2, 2, 3], dtype=torch.int32),
    }
    layer = SparseLinear(arrays, torch.tensor([0.0, 1.0, 0.5]), 3)
    assert layer.weight.tolist() == [[2, 0, 3], [0, 0, 0], [0, 5, 0]]
    assert layer(torch.tensor([1.0, 10.0, 100.0])).tolist() == [302.0, 1.0, 50.5]
    assert repr(layer) == ("SparseLinear(in_features=3, out_features=3, bias=True, format=csr, stored=33.3%)")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("format", "block"), [("csr", (1, 1)), ("bsr", (4, 1)), ("bsr", (2, 3))])
def test_round_trip_to_dense(
    pruned_linear: Factory, format: str, block: tuple[int, int], dtype: torch.dtype
) -> None:
    linear = pruned_linear(8, 6).to(dtype).eval()
    layer = SparseLinear.from_linear(linear, format=format, block=block)
    assert (layer.format, layer.block, layer.training) == (format, block, False)
    back = layer.to_linear()
    assert torch.equal(back.weight, linear.weight)
    assert back.weight.requires_grad
    assert torch.equal(back.bias, linear.bias)
    assert (back.in_features, back.out_features, back.training) == (6, 8, False)
    assert SparseLinear.from_linear(pruned_linear(8, 6, bias=False)).to_linear().bias is None


def test_mask_selects_the_kept_weights(pruned_linear: Factory) -> None:
    linear = pruned_linear(8, 6, density=0.9)
    mask = torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = linear.weight * mask
    for given in (mask, mask.numpy()):
        layer = SparseLinear.from_linear(linear, given)
        assert torch.equal(layer.weight, expected)
        assert layer.data.numel() == int(mask.sum())
    for wrong in (mask.float(), mask[:4], mask.T):
        with pytest.raises(FormatError, match=r"mask must be bool \[8, 6\]"):
            SparseLinear.from_linear(linear, wrong)


def test_arguments_are_checked(pruned_linear: Factory) -> None:
    linear = pruned_linear(8, 6)
    with pytest.raises(UsageError, match="unknown format 'coo'"):
        SparseLinear.from_linear(linear, format="coo")
    with pytest.raises(UsageError, match="does not apply to format 'csr'"):
        SparseLinear.from_linear(linear, block=(4, 1))
    with pytest.raises(UsageError, match="5x1 does not divide"):
        SparseLinear.from_linear(linear, format="bsr", block=(5, 1))
    with pytest.raises(UsageError, match=r"float64; convert the model with model\.float"):
        SparseLinear.from_linear(linear.double())
    arrays = FORMATS.get("csr").encode(
        linear.float().weight.detach().numpy(), linear.weight.numpy(force=True) != 0
    )
    with pytest.raises(FormatError, match=r"outside \[0, 3\)"):
        SparseLinear(arrays, None, 3)
    with pytest.raises(FormatError, match=r"bias must be \[8\]"):
        SparseLinear(arrays, torch.zeros(7), 6)
    with pytest.raises(FormatError, match="indptr falls"):
        SparseLinear(arrays | {"indptr": arrays["indptr"][[0, 2, 1, 3, 4, 5, 6, 7, 8]]}, None, 6)


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_round_trip(pruned_linear: Factory, assign: bool) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.data.zero_()
        other.bias.zero_()
    x = torch.randn(3, 6)
    assert not torch.equal(other(x), layer(x))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state.keys() == {"weight", "bias"}
    other.load_state_dict(state, assign=assign)
    assert torch.equal(other(x), layer(x))


def test_copies_are_independent(pruned_linear: Factory) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    x = torch.randn(3, 6)
    expected = layer(x)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), expected)
        with torch.no_grad():
            copied.data.mul_(2)
        assert not torch.equal(copied(x), expected)
        assert torch.equal(layer(x), expected)


def test_detects_changed_tensors(pruned_linear: Factory) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    x = torch.randn(3, 6)

    def check() -> None:
        close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))

    check()
    with torch.no_grad():
        layer.data.mul_(3)
        check()
        layer.bias.add_(1)
        check()
    with torch.inference_mode():
        layer.data.mul_(0.5)
        check()
    layer.data = torch.randn_like(layer.data)
    check()
    layer.data.data = torch.randn_like(layer.data)
    check()
    # Like an allocator that reuses memory: a new, unmodified tensor at the address of the previous one.
    memory = np.zeros(8, np.float32)
    for value in range(3):
        memory[:] = value
        layer.bias = torch.from_numpy(memory)
        check()
        layer.bias = None
    layer.indices = layer.indices.int()
    check()
    layer.bias = torch.from_numpy(memory)
    layer.half()
    assert layer.data.dtype == torch.float16
    close(layer(x), nn.functional.linear(x, layer.weight.float(), layer.bias.float()))
    layer.float()
    check()


def test_layers_may_share_tensors(pruned_linear: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    x = torch.randn(3, 6)
    twin = SparseLinear(dict(layer.named_buffers()), None, 6)
    wide = SparseLinear(dict(layer.named_buffers()), layer.bias, 9)
    assert twin.data is wide.data is layer.data
    for _ in range(2):
        close(layer(x) - layer.bias, twin(x))
        close(layer(x), wide(nn.functional.pad(x, (0, 3), value=7.0)))
    assert len(made) == 3


def test_packs_once_and_drops_the_entry_with_the_module(
    pruned_linear: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted(monkeypatch)
    gc.collect()
    before = len(packed._entries)
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    assert len(packed._entries) == before
    for _ in range(3):
        layer(torch.randn(3, 6))
    with torch.inference_mode():
        layer(torch.randn(3, 6))
    assert (len(made), len(packed._entries)) == (1, before + 1)
    layer.double()
    assert len(packed._entries) == before
    layer.float()
    layer(torch.randn(3, 6))
    assert (len(made), len(packed._entries)) == (2, before + 1)
    layer.bias = layer.bias.clone()
    assert len(packed._entries) == before
    layer(torch.randn(3, 6))
    del layer
    gc.collect()
    assert len(packed._entries) == before


def test_inference_mode(pruned_linear: Factory) -> None:
    linear = pruned_linear(8, 6)
    with torch.inference_mode():
        layer = copy.deepcopy(SparseLinear.from_linear(linear))
        x = torch.randn(3, 6)
        close(layer(x), linear(x))


def test_threads_may_call_one_layer(pruned_linear: Factory) -> None:
    layer = SparseLinear.from_linear(pruned_linear(64, 64))
    inputs = torch.randn(16, 9, 64).unbind()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(layer, inputs))
    assert all(torch.equal(y, layer(x)) for x, y in zip(inputs, found, strict=True))


def test_autocast(pruned_linear: Factory) -> None:
    linear = pruned_linear(64, 64)
    model = nn.Sequential(SparseLinear.from_linear(linear), nn.LayerNorm(64), nn.Linear(64, 4))
    x = torch.randn(3, 64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(x)
    expected = model(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


def test_missing_library(pruned_linear: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, "")
    linear = pruned_linear(8, 6)
    layer = SparseLinear.from_linear(linear)
    with pytest.raises(RuntimeLoadError, match=r"C\+\+17 compiler and reinstall aerogel, or .*densify"):
        layer(torch.randn(3, 6))
    assert torch.equal(layer.to_linear().weight, linear.weight)


def test_import_does_not_shadow_torch() -> None:
    code = (
        "import sys, aerogel; assert 'torch' not in sys.modules; import aerogel.torch, torch;"
        "assert aerogel.torch is not torch and torch.nn and 'transformers' not in sys.modules;"
        "print(sorted(aerogel.torch.__all__))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(
        ["LayerSummary", "ShrinkReport", "SparseLinear", "Summary", "densify", "report", "shrink", "sparsify"]
    )


def test_missing_torch_reports_the_install_command() -> None:
    code = "import sys; sys.modules['torch'] = None; import aerogel.torch"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'aerogel[export]'" in run.stderr
