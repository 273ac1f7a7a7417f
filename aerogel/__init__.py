"""Prune BERT-class encoders while they learn, and run them sparse.

Importing this package loads neither torch, transformers, onnx nor onnxruntime; each function below imports
what it needs when it is called.
"""

from aerogel.errors import AerogelError
from aerogel.kernels.cpu.library import library_path
from aerogel.runtime import session

__all__ = ["AerogelError", "__version__", "library_path", "session"]

__version__ = "0.1.0"
