"""Run exported models with ONNX Runtime and, if built, the native library."""

from aerogel.runtime.sessions import MAPPED_FROM, SLOWER_WHEN_FUSED, check_model, session, session_options

__all__ = [
    "MAPPED_FROM",
    "SLOWER_WHEN_FUSED",
    "check_model",
    "session",
    "session_options",
]
