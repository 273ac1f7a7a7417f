"""Expansions of ONNX Runtime's operators, one a file. Files that begin with an underscore are helpers."""
