"""Running exported models: ONNX Runtime, with the sparse kernels where they are available."""

from aerogel.runtime.sessions import MAPPED_FROM, SLOWER_WHEN_FUSED, check_model, session, session_options

__all__ = [
    "MAPPED_FROM",
    "SLOWER_WHEN_FUSED",
    "check_model",
    "session",
    "session_options",
]
