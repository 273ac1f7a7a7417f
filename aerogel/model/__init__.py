"""Run exported models on texts; needs only numpy, onnxruntime, tokenizers and rich."""

from aerogel.model.head import Head
from aerogel.model.loading import load
from aerogel.model.model import Model
from aerogel.model.results import Answer, Filled, Label, Ranked, Span, Sparse
from aerogel.model.tokenizer import Encoded

__all__ = ["Answer", "Encoded", "Filled", "Head", "Label", "Model", "Ranked", "Span", "Sparse", "load"]
