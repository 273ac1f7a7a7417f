"""Encoder_v1 in ONNX Runtime: the kernel alone, and compared with the function body."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

import aerogel
from aerogel.cost.model import EncoderShape
from aerogel.cost.non_gemm import fused_encoder
from aerogel.export.fusions._attention import MAX_HEAD_FEATURES
from aerogel.kernels.cpu.native import isas

FLOATS = "dense csr bsr csr-fp16 bsr-fp16 csr"
MIXED = "csr-int8 bsr dense bsr-int8 csr-fp16 bsr-int8"
BITMASKS = "bitmask bitmask-fp16 bitmask-int8 dense bitmask csr-int8"
PACKED = "csr csr csr csr csr csr"

Make = Callable[..., Any]


def session(data: bytes, threads: int = 1, library: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(aerogel.library_path())
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def batch(rows: int, length: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tokens and a mask with holes. If there are several sequences, the last one is all padding."""
    random = np.random.default_rng(seed + 100 * rows + length)
    mask = (random.random((rows, length)) < 0.8).astype(np.int64) * random.integers(1, 9, (rows, length))
    if rows > 1:
        mask[-1] = 0
    return {"hidden": random.standard_normal((rows, length, width)).astype(np.float32), "mask": mask}


def check(y: np.ndarray, expected: np.ndarray, rounds: bool) -> None:
    """Check for float32 precision, except in the few tokens whose activations round to another integer."""
    assert y.shape == expected.shape
    error = np.abs(y - expected).max(-1, initial=0)
    exact = error <= 1e-5
    assert np.count_nonzero(~exact) <= 0.1 * rounds * exact.size, np.sort(error.ravel())[-5:]
    assert error.max(initial=0) <= 0.1


@pytest.mark.parametrize("isa", [isa.name for isa in isas() if isa.available])
@pytest.mark.parametrize("words", [FLOATS, MIXED, BITMASKS], ids=["floats", "mixed", "bitmasks"])
def test_any_batch_and_sequence(encoder: Make, isa: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_ISA", isa)
    made = encoder(words)
    opened = session(made.model(), threads=2)
    assert opened.get_outputs()[0].shape[:2] == ["batch", "sequence"]
    for rows, length in ((1, 1), (1, 37), (3, 20), (5, 70), (2, 300), (0, 4), (3, 0)):
        feed = batch(rows, length, made.hidden)
        check(opened.run(None, feed)[0], made.apply(**feed), "int8" in words)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize(
    "words",
    [FLOATS, f"{FLOATS} {PACKED}", MIXED, BITMASKS],
    ids=["floats", "two layers", "mixed", "bitmasks"],
)
def test_kernel_equals_the_function_body(encoder: Make, activation: str, words: str) -> None:
    made = encoder(words, activation)
    data = made.model(body=True)
    feed = batch(4, 33, made.hidden)
    body, kernel = (session(data, library=library).run(None, feed)[0] for library in (False, True))
    check(body, made.apply(**feed), "int8" in words)
    check(kernel, body, "int8" in words)
    assert not kernel[feed["mask"] == 0].any()


@pytest.mark.parametrize("isa", [isa.name for isa in isas() if isa.available])
def test_largest_heads_that_export_fuses(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_ISA", isa)
    made = fused_encoder("fp32", EncoderShape(1, MAX_HEAD_FEATURES, 8, 1), np.random.default_rng(0))
    assert session(made.SerializeToString()).get_inputs()


def test_results_depend_on_neither_threads_nor_the_batch(encoder: Make) -> None:
    made = encoder(MIXED)
    feed = batch(6, 50, made.hidden)
    first = session(made.model()).run(None, feed)[0]
    for threads in (2, 5, 8):
        np.testing.assert_array_equal(session(made.model(), threads).run(None, feed)[0], first)
    opened = session(made.model())
    for row in range(6):
        alone = {name: array[row : row + 1] for name, array in feed.items()}
        np.testing.assert_array_equal(opened.run(None, alone)[0][0], first[row])


def test_two_sessions_at_once(encoder: Make) -> None:
    made = [encoder(MIXED), encoder(FLOATS)]
    opened = [session(each.model(), threads=2) for each in made]
    feeds = [batch(3, 40 + i, made[0].hidden, seed=i) for i in range(4)]
    alone = [[one.run(None, feed)[0] for feed in feeds] for one in opened]
    wrong: list[tuple[int, int]] = []

    def work(which: int) -> None:
        for _ in range(5):
            for number, feed in enumerate(feeds):
                if not np.array_equal(opened[which].run(None, feed)[0], alone[which][number]):
                    wrong.append((which, number))

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def put(position: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.ravel()[position] = value
        return array

    return change


@pytest.mark.parametrize(
    ("tensor", "change", "message"),
    [
        ("k_indptr", put(3, -1), "Encoder_v1: layer 1: k: indptr 'layer1_k_indptr' falls or overruns after row 2"),
        ("k_indptr", lambda a: a[:-1], r"Encoder_v1: bias 'layer1_k_bias' must be float32 \[14\]"),
        ("k_indptr", lambda a: a.astype(np.int64), "Encoder_v1: indptr 'layer1_k_indptr' must be int32"),
        ("k_indices", put(0, 24), r"layer 1: k: indices 'layer1_k_indices' have 24 at position 0"),
        ("k_indices", lambda a: a[:-1], "Encoder_v1: indices 'layer1_k_indices' must be uint16 or int32"),
        ("v_data", lambda a: a.astype(np.float16), "Encoder_v1: data 'layer1_v_data' must be float32 of rank 2"),
        ("v_data", lambda a: a[:-1], "Encoder_v1: data 'layer1_v_data' must have 24 rows"),
        ("v_data", lambda a: a[:, :0], "Encoder_v1: data 'layer1_v_data' must have 24 rows and a column"),
        ("v_data", lambda a: a[:, :-1], r"bias 'layer1_v_bias' must be float32 \[14\]"),
        ("q_data", put(2, -128), "Encoder_v1: layer 1: q: data 'layer1_q_data' has -128 at position 2"),
        ("q_scale", lambda a: a[:-1], r"Encoder_v1: scale 'layer1_q_scale' must be float32 \[15\]"),
        ("o_bias", lambda a: a[1:], r"Encoder_v1: bias 'layer1_o_bias' must be float32 \[24\]"),
        ("gamma1", lambda a: a[1:], "Encoder_v1: beta1 'layer1_beta1' must be float32"),
        ("gamma1", lambda a: a.astype(np.float64), r"Encoder_v1: gamma1 'layer1_gamma1' must be float32 \[n\]"),
        ("gamma2", lambda a: a[1:], r"Encoder_v1: gamma2 'layer1_gamma2' must be float32 \[24\]"),
        ("beta2", lambda a: a[:, None], r"Encoder_v1: beta2 'layer1_beta2' must be float32 \[24\], not float32"),
    ],
)  # fmt: skip
def test_load_rejects_malformed_tensors(
    encoder: Make, tensor: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    made = encoder(f"{FLOATS} {MIXED.replace('bsr dense', 'csr dense')}")
    name = f"layer1_{tensor}"
    made.tensors[name] = change(made.tensors[name].copy())
    with pytest.raises(Exception, match=message):
        session(made.model())


def test_load_rejects_narrower_layers(encoder: Make) -> None:
    made = encoder(f"{FLOATS} {PACKED}")
    for name in ("gamma1", "beta1", "gamma2", "beta2", "o_bias", "ffn2_bias"):
        made.tensors[f"layer1_{name}"] = made.tensors[f"layer1_{name}"][:-1]
    for name in ("o", "ffn2"):
        made.tensors[f"layer1_{name}_indptr"] = made.tensors[f"layer1_{name}_indptr"][:-1]
    with pytest.raises(Exception, match="Encoder_v1: layer 1: "):
        session(made.model())


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"matrices": FLOATS.replace("bsr-fp16", "coo")},
            "matrices names the unknown storage format 'coo'",
        ),
        ({"matrices": FLOATS.replace("dense", "Dense")}, "matrices names the unknown storage format 'Dense'"),
        ({"matrices": FLOATS + " csr"}, "Encoder_v1: matrices has 7 words; must be six per layer"),
        ({"matrices": ""}, "matrices has 0 words; must be six per layer"),
        ({"matrices": PACKED}, "Encoder_v1 has 28 inputs where matrices asks for 30"),
        ({"matrices": f"{FLOATS} {PACKED}"}, "Encoder_v1 has 28 inputs where matrices asks for 56"),
        ({"heads": 4}, "Encoder_v1: 4 heads do not divide 15 features"),
        ({"heads": 0}, "Encoder_v1: 0 heads do not divide 15 features"),
        ({"heads": -3}, "Encoder_v1: -3 heads do not divide 15 features"),
        ({"activation": "swish"}, "Encoder_v1: activation 'swish': must be gelu, gelu_tanh or relu"),
        ({"epsilon": -1.0}, "Encoder_v1: attribute epsilon is -1; it must be finite and not negative"),
        ({"epsilon": float("nan")}, "Encoder_v1: attribute epsilon is nan; it must be finite"),
        ({"epsilon": float("inf")}, "Encoder_v1: attribute epsilon is inf; it must be finite"),
        ({"epsilon": float("-inf")}, "Encoder_v1: attribute epsilon is -inf; it must be finite"),
        ({"heads": None}, "Encoder_v1: attribute heads is missing or not an integer"),
        ({"heads": 3.0}, "Encoder_v1: attribute heads is missing or not an integer"),
        ({"heads": 2**63 - 1}, "heads do not divide 15 features"),
        ({"epsilon": None}, "Encoder_v1: attribute epsilon is missing or not a float"),
        ({"epsilon": 1}, "Encoder_v1: attribute epsilon is missing or not a float"),
        ({"activation": None}, "Encoder_v1: attribute activation is missing or not a string"),
        ({"activation": "gelu\0x"}, "Encoder_v1: activation 'gelu"),
        ({"matrices": None}, "Encoder_v1: attribute matrices is missing or not a string"),
        ({"tokens": None}, "tokens"),
        ({"tokens": 5}, "Encoder_v1: attribute tokens is missing or not a string"),
        ({"tokens": "first" * 100}, "Encoder_v1: tokens 'firstfirst"),
        ({"tokens": "last"}, "Encoder_v1: tokens 'last': must be all or first"),
    ],
)
def test_load_rejects_invalid_attributes(encoder: Make, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        session(encoder(FLOATS).model(**attributes))


@pytest.mark.parametrize(
    "tensor", ["layer0_q_data", "layer0_k_indices", "layer0_o_indptr", "layer0_ffn1_bias", "layer0_beta2"]
)
def test_tensors_must_be_initializers(encoder: Make, tensor: str) -> None:
    with pytest.raises(Exception, match=f"Encoder_v1: .* '{tensor}' must be an initializer"):
        session(encoder(FLOATS).model(fed=(tensor,)))


def test_first_token_only(encoder: Make) -> None:
    made = encoder(FLOATS)
    feed = batch(3, 9, made.hidden)
    (every,) = session(made.model()).run(None, feed)
    (first,) = session(made.model(tokens="first")).run(None, feed)
    assert first.shape == (3, 1, made.hidden)
    np.testing.assert_array_equal(first, every[:, :1])


@pytest.mark.parametrize("words", [FLOATS, MIXED], ids=["floats", "mixed"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_stay_in_their_sequence(encoder: Make, words: str, value: float) -> None:
    made = encoder(words)
    opened = session(made.model(), threads=2)
    feed = batch(4, 70, made.hidden)
    feed["mask"][1, 5] = 0
    first = opened.run(None, feed)[0]
    feed["hidden"][1, 5] = value  # padding, which is never read
    np.testing.assert_array_equal(opened.run(None, feed)[0], first)
    token = np.flatnonzero(feed["mask"][1])[3]
    feed["hidden"][1, token, 7] = value
    (y,) = opened.run(None, feed)
    assert not np.isfinite(y[1][feed["mask"][1] != 0]).any()
    np.testing.assert_array_equal(np.delete(y, 1, 0), np.delete(first, 1, 0))


@pytest.mark.parametrize(("rows", "length"), [(2, 512), (1, 513), (2, 1025)])
@pytest.mark.parametrize("tokens", ["all", "first"])
def test_long_sequences(encoder: Make, rows: int, length: int, tokens: str) -> None:
    made = encoder(FLOATS)
    feed = batch(rows, length, made.hidden)
    feed["mask"][:, 0] = 1
    (y,) = session(made.model(tokens=tokens), threads=2).run(None, feed)
    check(y, made.apply(**feed)[:, : length if tokens == "all" else 1], rounds=False)


@pytest.mark.parametrize("tokens", ["all", "first"])
def test_all_padding_gives_zeros(encoder: Make, tokens: str) -> None:
    made = encoder(FLOATS)
    feed = batch(3, 9, made.hidden)
    feed["mask"][...] = 0
    assert not session(made.model(tokens=tokens)).run(None, feed)[0].any()


def test_unused_heads(encoder: Make) -> None:
    made = encoder(PACKED)
    made.tensors["layer0_o_indptr"][:] = 0
    for name in ("data", "indices"):
        made.tensors[f"layer0_o_{name}"] = made.tensors[f"layer0_o_{name}"][:0]
    made.layers[0]["o"] = lambda x: np.broadcast_to(
        made.tensors["layer0_o_bias"], (*x.shape[:-1], made.hidden)
    )
    feed = batch(2, 20, made.hidden)
    check(session(made.model()).run(None, feed)[0], made.apply(**feed), rounds=False)


def test_run_rejects_invalid_inputs(encoder: Make) -> None:
    made = encoder(FLOATS)
    opened = session(made.model())
    feed = batch(2, 9, made.hidden)
    with pytest.raises(
        Exception, match=r"Encoder_v1: hidden must be \[batch, sequence, 24\], not float32 \[2, 9, 23\]"
    ):
        opened.run(None, feed | {"hidden": feed["hidden"][..., :-1]})
    with pytest.raises(Exception, match=r"Encoder_v1: mask must be int64 \[2, 9\], not int64 \[2, 8\]"):
        opened.run(None, feed | {"mask": feed["mask"][:, :-1]})
