from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.hf.reason import reason


def test_reason_is_the_root_cause_in_one_line() -> None:
    advice = RuntimeError("\x1b[96mFailed\x1b[0m to export.\nNext steps:\n- modify the code")
    advice.__cause__ = ValueError("\n\x1b[31msize 3\x1b[0m does not fit\nmore")
    assert reason(advice) == "ValueError: size 3 does not fit"


def test_a_sentence_that_announces_further_lines_is_left_out() -> None:
    assert (
        reason(RuntimeError("No overload fits. Tried:\n  add(x)\n  sub(x)"))
        == "RuntimeError: No overload fits"
    )
    assert reason(RuntimeError("Tried these:\n  add(x)")) == "RuntimeError: Tried these"


def test_hints_of_the_tracer_are_left_out() -> None:
    assert reason(
        RuntimeError("Could not guard on u0 < 8 (unhinted: u0 < s1).  (Size-like symbols: u0)")
    ) == ("RuntimeError: Could not guard on u0 < 8")


def test_an_error_without_a_text_has_its_type() -> None:
    assert reason(AssertionError()) == "AssertionError"


def test_reason_includes_the_line_of_model_code(tmp_path: Path) -> None:
    file = tmp_path / "models" / "odd" / "modeling_odd.py"
    file.parent.mkdir(parents=True)
    file.write_text("def forward(length):\n    assert length % 8 == 0\n")
    space: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    with pytest.raises(AssertionError) as caught:
        space["forward"](3)  # type: ignore[operator]
    assert reason(caught.value) == "AssertionError at `assert length % 8 == 0` in modeling_odd.py"


def test_a_long_reason_is_truncated() -> None:
    said = reason(ValueError("x" * 1000))
    assert len(said) == 300
    assert said.endswith("x...")
