"""Silence torch and transformers."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, progress bars and load reports of torch and transformers inside the block."""
    from transformers.utils import logging as hf_logging

    torch_logger = logging.getLogger("torch.onnx")
    level, bars, torch_level = (
        hf_logging.get_verbosity(),
        hf_logging.is_progress_bar_enabled(),
        torch_logger.level,
    )
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    torch_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch_logger.setLevel(torch_level)
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
