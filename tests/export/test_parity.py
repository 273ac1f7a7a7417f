from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from aerogel.errors import ParityError
from aerogel.export.parity import ROUNDING, Batch, batches, compare, text_batches
from aerogel.export.reference_model import TOLERANCE


def altered(source: Any, **changes: Any) -> Any:
    """A copy of a reference with other attributes."""
    made = copy.copy(source)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@dataclass
class Fake:
    """A source whose one output is made by a function of the token ids."""

    tolerance = TOLERANCE
    fixed = (None, None)

    outputs: dict[str, np.ndarray]

    def run(self, inputs: Batch) -> Batch:
        assert inputs["input_ids"].ndim == 2
        return self.outputs


def check(reference: Batch, got: Batch, batches: int = 1) -> Any:
    some = [{"input_ids": np.zeros((2, 3 + i), np.int64)} for i in range(batches)]
    return compare(Fake(reference), some, {"it": lambda _: got})["it"]  # type: ignore[arg-type]


REFERENCE = np.array([[1.0, -4.0], [3.0, 2.0]], np.float32)


def test_difference_is_the_largest_and_relative_to_the_largest_value() -> None:
    got = REFERENCE.copy()
    got[1, 1] += 2**-13
    found = check({"logits": REFERENCE}, {"logits": got}, batches=3)
    assert (found.difference, found.relative) == (2**-13, 2**-15)
    assert (found.texts, found.shapes) == (6, 3)
    assert (found.labels, found.agreeing) == (6, 6)


@pytest.mark.parametrize("sign", [-1, 1])
def test_tolerance_bounds_the_difference_from_above(sign: int) -> None:
    for factor, passes in ((0.9, True), (1.1, False)):
        got = REFERENCE.astype(np.float64)
        got[0, 0] += sign * factor * TOLERANCE * 4.0
        if passes:
            assert check({"logits": REFERENCE}, {"logits": got}).relative <= TOLERANCE
        else:
            with pytest.raises(
                ParityError, match=r"logits differs from PyTorch's by 0\.00044 .*it, batch 2, sequence 3"
            ):
                check({"logits": REFERENCE}, {"logits": got})


def test_one_weak_output_is_not_hidden_by_a_strong_one() -> None:
    weak = REFERENCE * np.float32(1e-3)
    with pytest.raises(ParityError, match="end_logits"):
        check(
            {"start_logits": REFERENCE, "end_logits": weak},
            {"start_logits": REFERENCE, "end_logits": weak + 1e-5},
        )


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ({}, "logits is missing"),
        ({"logits": REFERENCE[:1]}, r"of shape \[1, 2\] where PyTorch gives \[2, 2\]"),
        ({"logits": np.full_like(REFERENCE, np.nan)}, "logits is not finite"),
        (
            {"logits": np.where(REFERENCE > 2, np.inf, REFERENCE)},
            r"logits is not finite .it, batch 2, sequence 3",
        ),
    ],
)
def test_outputs_that_are_no_outputs(got: Batch, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        check({"logits": REFERENCE}, got)


def test_batch_of_small_values_is_judged_by_the_scale_of_them_all() -> None:
    class Growing:
        tolerance = TOLERANCE

        def run(self, inputs: Batch) -> Batch:
            return {"logits": inputs["input_ids"].astype(np.float32)}

    some = [{"input_ids": np.full((1, 2), value)} for value in (1e-3, 5.0)]
    found = compare(Growing(), some, {"it": lambda b: {"logits": b["input_ids"] + 1e-4}})  # type: ignore[arg-type]
    assert found["it"].relative == pytest.approx(2e-5, rel=0.01)
    with pytest.raises(ParityError, match=r"differs .* largest value is 0\.001"):
        compare(Growing(), some[:1], {"it": lambda b: {"logits": b["input_ids"] + 1e-4}})  # type: ignore[arg-type]


def rounded(got: Batch, ties: bool, off: float = 0.5) -> Any:
    """`got` beside REFERENCE, which rounding has moved away from the original by `off`."""
    sources: list[Any] = [Fake({"logits": REFERENCE}), Fake({"logits": REFERENCE - np.float32(off)})]
    some = [{"input_ids": np.zeros((2, 3), np.int64), "attention_mask": np.ones((2, 3), np.int64)}]
    return compare(sources[0], some, {"it": lambda _: got}, original=sources[1], ties=ties)["it"]


def test_ties_allow_twice_what_rounding_does() -> None:
    for gap, passes in ((0.99, True), (1.01, False)):
        got = {"logits": REFERENCE + np.float32(gap * ROUNDING * 0.5)}
        if passes:
            found = rounded(got, ties=True)
            assert found.relative == pytest.approx(gap * ROUNDING * 0.5 / 4)
            assert found.allowed == pytest.approx(ROUNDING * 0.5 / 4)
        else:
            with pytest.raises(
                ParityError, match=r"differs from PyTorch's by 1\.01 .* 0\.25 of that is allowed"
            ):
                rounded(got, ties=True)
    with pytest.raises(ParityError, match=r"0\.0001 of that is allowed"):
        rounded({"logits": REFERENCE + np.float32(0.1)}, ties=False)


def test_ties_never_allow_less_than_float32_does() -> None:
    found = rounded({"logits": REFERENCE + np.float32(2**-13)}, ties=True, off=0.0)
    assert found.allowed == TOLERANCE


def test_the_distance_from_the_unrounded_model_is_told() -> None:
    found = rounded({"logits": REFERENCE}, ties=False)
    assert (found.difference, found.mean, found.drift.difference, found.drift.mean) == (0, 0, 0.5, 0.5)
    assert found.drift.allowed is None
    assert found.drift.drift is None
    # The largest of the original's values is 4.5 in size.
    assert found.drift.relative == pytest.approx(0.5 / 4.5)
    assert (found.drift.labels, found.drift.agreeing) == (2, 2)
    assert check({"logits": REFERENCE}, {"logits": REFERENCE}).drift is None


def test_reference_that_is_not_finite_never_agrees() -> None:
    with pytest.raises(ParityError, match="PyTorch's output logits is not finite"):
        check({"logits": np.full_like(REFERENCE, np.nan)}, {"logits": REFERENCE})


def test_labels_that_flip_within_the_tolerance_are_counted() -> None:
    close = np.array([[9.0, 9.0001], [1.0, 5.0]], np.float32)
    found = check({"logits": close}, {"logits": close[:, ::-1][[0, 0]] * 0 + [[9.0001, 9.0], [1.0, 5.0]]})
    assert (found.labels, found.agreeing) == (2, 1)


@pytest.mark.parametrize(("name", "shape"), [("last_hidden_state", (2, 3, 4)), ("logits", (2, 1))])
def test_outputs_that_decide_nothing_have_no_labels(name: str, shape: tuple[int, ...]) -> None:
    assert check({name: np.ones(shape, np.float32)}, {name: np.ones(shape, np.float32)}).labels == 0


def test_bundled_batches_cover_shapes_padding_and_pairs(captured: Callable[..., Any]) -> None:
    _, source, _ = captured("bert")
    found = list(batches(source))
    shapes = {batch["input_ids"].shape for batch in found}
    assert {1, 2, 8} <= {shape[0] for shape in shapes}
    assert {1, 2, source.max_length} <= {shape[1] for shape in shapes}
    assert any((batch["attention_mask"] == 0).any() for batch in found)
    assert any((batch["token_type_ids"] == 1).any() for batch in found)
    full = [b for b in found if b["input_ids"].shape[1] == source.max_length]
    assert any((b["attention_mask"][0] == 1).all() and (b["attention_mask"][1] == 0).any() for b in full)


def test_longest_batch_is_bounded(captured: Callable[..., Any]) -> None:
    _, source, _ = captured("bert")
    assert max(b["input_ids"].shape[1] for b in batches(altered(source, max_length=100_000))) == 512


def test_text_batches_hold_every_line_once(captured: Callable[..., Any]) -> None:
    _, source, _ = captured("bert")
    texts = ["the film " * (i % 13) for i in range(70)]
    found = list(text_batches(source, texts, None))
    assert sum(len(batch["input_ids"]) for batch in found) == 70
    assert max(len(batch["input_ids"]) for batch in found) <= 32
    expected = sorted(2 + 2 * (i % 13) for i in range(70))
    assert sorted(int(row.sum()) for batch in found for row in batch["attention_mask"]) == expected
    (pairs,) = text_batches(source, ["the", "a"], ["film", "good film"])
    assert pairs["token_type_ids"].sum() == 2 + 3


PADDED = np.array([[1, 1, 0], [1, 0, 0]], np.int64)


def check_padded(reference: Batch, got: Batch, per_token: tuple[str, ...] = ("logits",)) -> Any:
    batch = {"input_ids": np.zeros((2, 3), np.int64), "attention_mask": PADDED}
    return compare(Fake(reference), [batch], {"it": lambda _: got}, per_token)["it"]  # type: ignore[arg-type]


def test_padding_does_not_count_in_outputs_per_token() -> None:
    tokens = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    zeroed = np.where(PADDED[..., None] == 1, tokens, 0).astype(np.float32)
    found = check_padded({"logits": tokens}, {"logits": zeroed})
    # Three real tokens, and as many labels; the largest value at one of them is 7.
    assert (found.difference, found.labels, found.agreeing) == (0, 3, 3)
    with pytest.raises(ParityError, match="logits differs"):
        check_padded({"logits": tokens}, {"logits": zeroed}, per_token=())
    for row, column, differs in [(0, 1, True), (1, 0, True), (0, 2, False), (1, 1, False)]:
        off = zeroed.copy()
        off[row, column, 0] += 1
        if differs:
            with pytest.raises(
                ParityError, match=r"logits differs from PyTorch's by 1 where its largest value is 7"
            ):
                check_padded({"logits": tokens}, {"logits": off})
        else:
            assert check_padded({"logits": tokens}, {"logits": off}).difference == 0


def test_the_end_of_a_span_is_a_real_token() -> None:
    scores = np.array([[1, 2, 9], [3, 9, 9]], np.float32)
    found = check_padded({"start_logits": scores}, {"start_logits": scores * PADDED}, ("start_logits",))
    assert (found.labels, found.agreeing) == (2, 2)
    with pytest.raises(ParityError):
        check_padded({"start_logits": scores}, {"start_logits": scores * PADDED}, ())


def test_padding_that_is_not_finite_is_refused_all_the_same() -> None:
    tokens = np.ones((2, 3, 2), np.float32)
    odd = np.where(PADDED[..., None] == 1, tokens, np.nan)
    with pytest.raises(ParityError, match="the artifact's output logits is not finite"):
        check_padded({"logits": tokens}, {"logits": odd})
