"""Save and copy sparse models: files have the same contents as those of the dense model."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from aerogel.errors import FormatError, UsageError
from aerogel.hf.quiet import quiet
from aerogel.torch import densify, report, sparsify

Checkpoints = Callable[..., Path]


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(5, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.tensor([[1] * 9, [1] * 4 + [0] * 5])).logits


@pytest.mark.parametrize(("family", "format"), [("bert", "csr"), ("distilbert", "bsr")])
def test_saved_model_opens_in_transformers(
    tiny_checkpoint: Checkpoints, tmp_path: Path, family: str, format: str
) -> None:
    import transformers

    model = sparsify(tiny_checkpoint(family, density=0.2, block=(4, 1)), format)
    with quiet():
        model.save_pretrained(tmp_path)
        loaded, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path, output_loading_info=True
        )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    dense = densify(copy.deepcopy(model)).state_dict()
    assert loaded.state_dict().keys() == dense.keys()
    assert all(torch.equal(value, dense[name]) for name, value in loaded.state_dict().items())
    torch.testing.assert_close(logits(model), logits(loaded.eval()), rtol=1e-5, atol=1e-6)


def test_tied_weights_are_saved(tiny_checkpoint: Checkpoints, tmp_path: Path) -> None:
    import transformers

    model = sparsify(tiny_checkpoint("bert", "MaskedLM", density=0.2))
    with quiet():
        model.save_pretrained(tmp_path)
        loaded = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(model), logits(loaded), rtol=1e-5, atol=1e-5)


def test_state_dict_equals_that_of_the_dense_model(tiny_model: Callable[[], Any]) -> None:
    dense, other = tiny_model(), tiny_model()
    sparse = sparsify(copy.deepcopy(dense), "auto")
    assert len(report(sparse).sparse) == 12
    file = io.BytesIO()
    torch.save(sparse.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state.keys() == dense.state_dict().keys()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    torch.testing.assert_close(logits(other), logits(sparse), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("assign", [False, True])
def test_loads_the_state_dict_of_a_dense_model(tiny_model: Callable[[], Any], assign: bool) -> None:
    dense = tiny_model()
    sparse = sparsify(tiny_model(), "auto")
    with torch.no_grad():
        for name, parameter in dense.named_parameters():
            # Change the values, and the mask of one matrix.
            parameter.mul_(1.5)
            if name.endswith("layer.0.intermediate.dense.weight"):
                parameter.copy_(parameter.flip(0))
    sparse.load_state_dict(dense.state_dict(), assign=assign)
    torch.testing.assert_close(logits(sparse), logits(dense), rtol=1e-5, atol=1e-5)
    assert len(report(sparse).sparse) == 12


def test_loads_packed_arrays_of_earlier_versions(pruned_linear: Callable[..., nn.Linear]) -> None:
    layer = sparsify(nn.Sequential(pruned_linear(8, 6)))
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other[0].data.zero_()
    state = {f"0.{name}": value for name, value in layer[0].named_buffers()}
    other.load_state_dict(state)
    assert torch.equal(other[0].weight, layer[0].weight)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(6, 8), r"0\.weight must be a float tensor \[8, 6\], not torch\.float32\[6, 8\]"),
        (torch.ones(8, 6, dtype=torch.int64), "not torch.int64"),
        ([1.0], "not list"),
    ],
)
def test_rejects_state_dicts_that_do_not_fit(
    pruned_linear: Callable[..., nn.Linear], weight: Any, message: str
) -> None:
    model = sparsify(nn.Sequential(pruned_linear(8, 6)))
    with pytest.raises(FormatError, match=message):
        model.load_state_dict({"0.weight": weight, "0.bias": model[0].bias})


def test_missing_and_unexpected_keys_are_reported(pruned_linear: Callable[..., nn.Linear]) -> None:
    model = sparsify(nn.Sequential(pruned_linear(8, 6)))
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*\"0\.weight\".*Unexpected key.*\"0\.scale\""):
        model.load_state_dict({"0.bias": model[0].bias, "0.scale": torch.ones(1)})
    assert model.load_state_dict({"0.bias": model[0].bias}, strict=False).missing_keys == ["0.weight"]


def test_copies_of_a_whole_model(tiny_model: Callable[[], Any]) -> None:
    model = sparsify(tiny_model())
    seen: list[int] = []
    expected = logits(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for copied in copies:
        assert torch.equal(logits(copied), expected)
        assert len(report(copied).sparse) == 12
    model.bert.encoder.layer[0].output.dense.register_forward_hook(lambda *_: seen.append(1))
    for copied in copies:
        logits(copied)
    assert not seen


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_dtypes(tiny_model: Callable[[], Any], dtype: torch.dtype) -> None:
    dense = tiny_model()
    model = sparsify(copy.deepcopy(dense)).to(dtype)
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {dtype}
    expected = logits(dense.to(dtype)).float()
    scale = float(expected.abs().max())
    # Measured: 2 epsilon of the dtype over the output's scale.
    assert float((logits(model).float() - expected).abs().max()) <= 4 * torch.finfo(dtype).eps * scale
    with pytest.raises(UsageError, match="float64"):
        logits(model.double())
