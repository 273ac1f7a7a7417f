"""Seeds of random generators."""

from __future__ import annotations

from aerogel.errors import UsageError

__all__ = ["check_seed"]


def check_seed(seed: int) -> None:
    """Check that every random generator accepts a seed.

    Raises:
        UsageError: `seed` is not from 0 to 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed {seed} is out of range; give 0 to {2**32 - 1}")
