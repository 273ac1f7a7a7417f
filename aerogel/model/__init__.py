"""Running exported models: texts in, answers out, with numpy, onnxruntime, tokenizers and rich alone."""

from aerogel.model.head import Head
from aerogel.model.model import Model, load
from aerogel.model.results import Answer, Filled, Label, Ranked, Span, Sparse
from aerogel.model.tokenizer import Encoded

__all__ = ["Answer", "Encoded", "Filled", "Head", "Label", "Model", "Ranked", "Span", "Sparse", "load"]
