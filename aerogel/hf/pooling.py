"""What sentence-transformers does with token states, as one torch module that can be traced."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aerogel.errors import CheckpointError
from aerogel.hf.sentence_transformers import Dense, Modules
from aerogel.hf.weights import read_tensors

__all__ = ["EmbeddingHead", "SpladeHead", "TokenHead", "head_of"]

_ACTIVATIONS = {
    "identity": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}
_SMALL = 1e-9  # sentence-transformers' bound on a sum of mask entries


class EmbeddingHead(nn.Module):
    """Pooling, linear layers, normalisation: token states ``[batch, tokens, d]`` to ``[batch, e]``."""

    def __init__(self, modules: Modules) -> None:
        super().__init__()
        assert modules.pooling is not None
        self.modes = modules.pooling.modes
        self.dense = nn.Sequential(*map(_linear, modules.dense))
        self.normalize = modules.normalize

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """`mask` is ``[batch, tokens]``, 1 where a token is real."""
        pooled = torch.cat([_pool(mode, states, mask) for mode in self.modes], 1)
        return _normalized(self.dense(pooled), self.normalize)


class TokenHead(nn.Module):
    """One vector per token, as ColBERT keeps them: linear layers and normalisation, ``[batch, tokens, e]``."""

    def __init__(self, modules: Modules) -> None:
        super().__init__()
        self.dense = nn.Sequential(*map(_linear, modules.dense))
        self.normalize = modules.normalize

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Vectors of padding are zero."""
        return _normalized(self.dense(states), self.normalize) * mask[:, :, None].to(states.dtype)


class SpladeHead(nn.Module):
    """w_j = max_i log(1 + relu(logit_ij)) over real tokens i: logits ``[batch, tokens, v]`` to ``[batch, v]``."""

    def __init__(self, modules: Modules) -> None:
        super().__init__()
        self.sum = modules.splade == "sum"
        self.log_twice = modules.log_twice

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """`mask` is ``[batch, tokens]``, 1 where a token is real."""
        weights = torch.log1p(torch.relu(logits))
        if self.log_twice:
            weights = torch.log1p(weights)
        weights = weights * mask[:, :, None].to(weights.dtype)
        return weights.sum(1) if self.sum else weights.amax(1)


def head_of(modules: Modules) -> tuple[nn.Module, str]:
    """The head of a model in evaluation mode, and the name of its output.

    Raises:
        CheckpointError: weights of a linear layer are missing or of another shape.
    """
    if modules.splade:
        return SpladeHead(modules).eval(), "sparse_embedding"
    if modules.pooling is None:
        return TokenHead(modules).eval(), "token_embeddings"
    return EmbeddingHead(modules).eval(), "sentence_embedding"


def _pool(mode: str, states: Tensor, mask: Tensor) -> Tensor:
    real = mask[:, :, None].to(states.dtype)
    if mode == "cls":
        return states[:, 0]
    if mode == "max":
        return torch.where(real > 0, states, torch.full_like(states, -1e9)).amax(1)
    if mode == "last_token":
        # The last real token; texts are padded on the right.
        last = mask.to(torch.int64).cumsum(1).argmax(1)
        return torch.gather(states, 1, last[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
    if mode == "weighted_mean":
        real = real * real.cumsum(1)
    total = (states * real).sum(1)
    count = real.sum(1).clamp(min=_SMALL)
    return total / (count.sqrt() if mode == "mean_sqrt_len" else count)


def _linear(layer: Dense) -> nn.Module:
    made = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
    tensors = read_tensors(layer.folder)
    wanted = {f"linear.{name}": value for name, value in made.named_parameters()}
    for name, value in wanted.items():
        found = tensors.get(name)
        if found is None or found.shape != value.shape or not bool(found.isfinite().all()):
            raise CheckpointError(
                f"{layer.folder}: {name} is missing, of another shape, or not finite; restore it"
            )
        value.data = found.to(torch.float32)
    return nn.Sequential(made, _ACTIVATIONS[layer.activation]())


def _normalized(vectors: Tensor, wanted: bool) -> Tensor:
    return nn.functional.normalize(vectors, p=2.0, dim=-1) if wanted else vectors
