"""Target "bundle": one .zip archive with the model and all that is needed to run it with ONNX Runtime alone."""

from __future__ import annotations

from aerogel.export.targets.onnx import Onnx

__all__ = ["TARGET"]


class Bundle(Onnx):
    """See the module's docstring. The model is that of target "onnx"; `aerogel.export.layouts.bundle` packs it."""

    suffix = ".zip"
    layouts = ("bundle",)


TARGET = Bundle()
