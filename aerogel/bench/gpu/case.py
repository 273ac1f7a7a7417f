"""The benchmark cases of a GPU, with their targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Case", "Target", "cases", "small"]

_BERT = ((768, 768), (3072, 768), (768, 3072))
_LARGE = ((4096, 4096), (16384, 4096))


@dataclass(frozen=True)
class Target:
    """`kernel` is at least `at_least` times as fast as `against`; with the quantity "bytes", as small."""

    kernel: str
    against: str
    at_least: float
    quantity: str = "ms"


@dataclass(frozen=True)
class Case:
    """One benchmark case.

    Attributes:
        name: unique name.
        scenario: "product", "training" or "encoder": a module of `scenarios`.
        kernels: kernels to compare; the first is the baseline.
        shape: (out, in) of the weight.
        block: (rows, cols) kept or pruned together.
        density: fraction of weights kept.
        dtype: type of weights and activations.
        tokens: rows of x; for an encoder, batch times sequence length.
        targets: ratios to reach.
        nm: keep two of four neighbours in a row, instead of blocks.
    """

    name: str
    scenario: str
    kernels: tuple[str, ...]
    shape: tuple[int, int]
    block: tuple[int, int]
    density: float
    dtype: str
    tokens: int
    targets: tuple[Target, ...] = ()
    nm: bool = False


def cases() -> list[Case]:
    """Return all benchmark cases, the most important first."""
    found = [
        Case(
            "encoder bert-base 32x32 90% float16 32x128", "encoder", ("dense", "aerogel"), (768, 768), (32, 32), 0.1,
            "float16", 32 * 128, (Target("aerogel graph", "dense graph", 2.0),),
        ),
        *(_blocks(shape, side, 0.1, "float16", 4096) for side in (64, 32) for shape in _BERT),
        *(_packed(shape, 0.1, tokens) for shape in _LARGE for tokens in (1, 16, 32)),
        Case(
            "training 32x32 90% bfloat16 3072x768 4096", "training", ("dense", "aerogel-bsr"), (3072, 768), (32, 32),
            0.1, "bfloat16", 4096, (Target("aerogel-bsr", "dense", 1.5),),
        ),
        *(_csr(shape, density, 4096) for density in (0.1, 0.02) for shape in _BERT),
        *(_blocks(shape, side, 0.5, "float16", 4096) for side in (64, 32) for shape in _BERT[1:2]),
        _blocks((3072, 768), 32, 0.1, "bfloat16", 4096),
        *(_blocks((3072, 768), 32, 0.1, "float16", tokens) for tokens in (1, 128, 1024, 16384, 65536)),
        _blocks((3072, 768), 16, 0.1, "float16", 4096),
        _two_four((3072, 768), 4096),
        _two_four((4096, 4096), 4096),
        *(_csr((3072, 768), 0.1, tokens) for tokens in (1, 32)),
        *(_packed((4096, 4096), density, 16) for density in (0.05, 0.2, 0.5)),
    ]  # fmt: skip
    return list({case.name: case for case in found}.values())


def small(case: Case) -> Case:
    """Return the case in a size for Triton's interpreter."""
    block = case.block if case.block == (1, 1) or case.nm else (16, 16)
    return replace(
        case, shape=(64, 128), block=block, tokens=min(case.tokens, 8), density=max(case.density, 0.3)
    )


def _name(prefix: str, shape: tuple[int, int], density: float, dtype: str, tokens: int) -> str:
    return f"{prefix} {1 - density:.0%} {dtype} {shape[0]}x{shape[1]} {tokens}"


def _blocks(shape: tuple[int, int], side: int, density: float, dtype: str, tokens: int) -> Case:
    targets: tuple[Target, ...] = ()
    if tokens >= 4096 and side >= 32:
        high = Target("aerogel-bsr", "dense", 4.0), Target("aerogel-bsr", "torch-bsr", 1.5)
        targets = high if density <= 0.1 else (Target("aerogel-bsr", "dense", 1.0),)
    kernels = ("dense", "aerogel-bsr", "torch-bsr", "cusparse-bsr")
    name = _name(f"blocks {side}x{side}", shape, density, dtype, tokens)
    return Case(name, "product", kernels, shape, (side, side), density, dtype, tokens, targets)


def _csr(shape: tuple[int, int], density: float, tokens: int) -> Case:
    name = _name("unstructured", shape, density, "float32", tokens)
    kernels = ("dense", "aerogel-csr", "cusparse-csr")
    targets = (Target("aerogel-csr", "cusparse-csr", 2.0),)
    return Case(name, "product", kernels, shape, (1, 1), density, "float32", tokens, targets)


def _packed(shape: tuple[int, int], density: float, tokens: int) -> Case:
    name = _name("packed", shape, density, "float16", tokens)
    kernels = ("dense", "aerogel-packed", "aerogel-csr", "cusparse-csr")
    targets: tuple[Target, ...] = ()
    if density == 0.1:
        targets = (
            Target("aerogel-packed", "dense", 2.5),
            Target("aerogel-packed", "dense", 4.0, "bytes"),
        )
    return Case(name, "product", kernels, shape, (1, 1), density, "float16", tokens, targets)


def _two_four(shape: tuple[int, int], tokens: int) -> Case:
    name = _name("2:4", shape, 0.5, "float16", tokens)
    return Case(name, "product", ("dense", "two-four"), shape, (1, 1), 0.5, "float16", tokens, nm=True)
