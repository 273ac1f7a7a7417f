"""Masks, densities and storage formats, in pure numpy; torch and onnx are not imported."""
