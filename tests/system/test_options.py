from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from aerogel.errors import UsageError
from aerogel.system.options import NoOptions, option_values, read_options


@dataclass(frozen=True)
class Sample:
    lambda_: float | None = None
    phases: int = 3
    adaptive: bool = False
    kind: str = "a"

    def __post_init__(self) -> None:
        if self.phases < 1:
            raise UsageError(f"--option phases={self.phases}: must be at least 1")


def test_text_and_typed_values_are_equivalent() -> None:
    text = {"lambda": "1e2", "phases": "4", "adaptive": "true", "kind": "b"}
    typed = {"lambda": 100, "phases": 4, "adaptive": True, "kind": "b"}
    expected = Sample(lambda_=100.0, phases=4, adaptive=True, kind="b")
    assert (
        read_options(Sample, text, "method sample")
        == read_options(Sample, typed, "method sample")
        == expected
    )
    assert type(read_options(Sample, typed, "method sample").lambda_) is float
    assert option_values(expected) == typed
    # Recorded options can be passed again.
    for options in (Sample(), expected):
        assert read_options(Sample, option_values(options), "method sample") == options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"lamda": "1"},
            r"--option lamda: method sample has no such option; known: adaptive, kind, lambda, phases",
        ),
        ({"lambda_": "1"}, r"--option lambda_: method sample has no such option"),
        ({"lambda": "much"}, r"--option lambda=much: must be a number"),
        ({"lambda": "nan"}, r"--option lambda=nan: must be a number"),
        ({"lambda": True}, r"--option lambda=True: must be a number"),
        ({"lambda": [1]}, r"--option lambda=\[1\]: must be a number"),
        ({"phases": "1.5"}, r"--option phases=1.5: must be a whole number"),
        ({"phases": 1.5}, r"--option phases=1.5: must be a whole number"),
        ({"phases": float("inf")}, r"--option phases=inf: must be a whole number"),
        ({"phases": None}, r"--option phases=None: must be a whole number"),
        ({"phases": "0"}, r"--option phases=0: must be at least 1"),
        ({"adaptive": "yes"}, r"--option adaptive=yes: must be true or false"),
        ({"adaptive": 1}, r"--option adaptive=1: must be true or false"),
    ],
)
def test_invalid_options_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_options(Sample, given, "method sample")


def test_the_error_says_that_a_method_has_no_options() -> None:
    assert read_options(NoOptions, {}, "method magnitude") == NoOptions()
    with pytest.raises(UsageError, match="--option eps: method magnitude has no such option; it has none"):
        read_options(NoOptions, {"eps": "1"}, "method magnitude")
