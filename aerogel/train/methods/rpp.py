"""Reweighted proximal pruning (Guo et al. 2019, section 3).

    minimise over w   f(w) + gamma sum over i of alpha_i |w_i|

Inner loop, each step t: the optimizer's step on f alone gives a, then the proximal step

    w_i = sign(a_i) max(|a_i| - t_i, 0),   t_i = lr_t gamma alpha_i

so the penalty enters neither the gradient nor Adam's moments. With `adaptive`, the step is taken in Adam's metric:
t_i = lr_t gamma alpha_i / (sqrt(v_i) + eps_Adam), v being the second moments after bias correction.

Outer loop: alpha starts at 1; at the end of each phase but the last, alpha_i = 1 / (|w_i| + eps). Phases are of equal
length, from the first step of the schedule's descent to the end of the run (with `finetune`, of the descent).

The exact zeros are the mask. They are found while pre-training in the paper; `finetune` fixes them after the step with
which the descent ends, and leaves the rest of the run to the survivors.

Blocks are an extension: |w_i| becomes the Euclidean norm of block b, the step w_b = a_b max(1 - t_b / |a_b|, 0) (the
group lasso's), and sqrt(v) the mean of the block's.

Where a density v_t is asked for, gamma is found anew in every step, as one that leaves just that: with
u_i = |a_i| lr_t gamma / t_i, lr_t gamma is the geometric mean of the largest u among the (1 - v_t) n that go and the
smallest of the v_t n that stay. And alpha is refreshed before the first such step too, which the paper does not do.
Under alpha = 1 it takes a gamma near 1 to hold a zero against Adam, whose steps are of size lr_t, and then all weights
shrink as fast as they can learn; a zero whose alpha is 1 / eps stays by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.sparse.masks import block_scores, expand_blocks
from aerogel.train.density_controller import bracket, is_steered
from aerogel.train.method import Mask, Method, SparsityConfig, StepContext

__all__ = ["METHOD", "Options", "ReweightedMask", "ReweightedProximal"]


@dataclass(frozen=True)
class Options:
    """Options of reweighted proximal pruning.

    Attributes:
        gamma: weight of the penalty; None where a density is asked for.
        eps: added to |w| where alpha is refreshed.
        reweightings: how often alpha is refreshed.
        adaptive: divide thresholds by sqrt(v) + eps_Adam.
        finetune: fix the zeros where the schedule's descent ends, and train the rest without a penalty.
    """

    gamma: float | None = None
    eps: float = 1e-9
    reweightings: int = 30
    adaptive: bool = False
    finetune: bool = False

    def __post_init__(self) -> None:
        if self.gamma is not None and self.gamma < 0:
            raise UsageError(f"--option gamma={self.gamma:g}: must not be negative")
        if self.eps <= 0:
            raise UsageError(f"--option eps={self.eps:g}: must be positive")
        if self.reweightings < 0:
            raise UsageError(f"--option reweightings={self.reweightings}: must not be negative")


class ReweightedMask(Mask):
    """A mask, all ones until it is fixed, and alpha ``[out / r, in / c]``."""

    alpha: Tensor

    def __init__(self, weight: Tensor, block: tuple[int, int]) -> None:
        super().__init__(weight)
        rows, cols = weight.shape[0] // block[0], weight.shape[1] // block[1]
        self.register_buffer("alpha", torch.ones(rows, cols, dtype=weight.dtype, device=weight.device))


class ReweightedProximal(Method):
    """Shrink weights to exact zeros beside the optimizer, the small ones ever faster."""

    Options = Options
    density_is_outcome = True
    masks: dict[str, ReweightedMask]  # type: ignore[assignment]  # narrower than the base's: mask_for makes them all

    def __init__(
        self, matrices: Mapping[str, nn.Linear], target: SparsityConfig, options: Any = None
    ) -> None:
        given = (options or Options()).gamma
        steered = is_steered(target, "gamma", given)
        super().__init__(matrices, target, options)
        self.steered, self.gamma, self.fixed = steered, given or 0.0, False
        self.reweighted, self.ended = False, 0

    def mask_for(self, weight: Tensor) -> ReweightedMask:
        """Ones, and alpha = 1."""
        return ReweightedMask(weight, self.target.block)

    def before_step(self, step: StepContext) -> None:
        """Fix the mask where `finetune` says so."""
        if self.options.finetune and step.index > step.finish and not self.fixed:
            self.settle()

    @torch.no_grad()
    def after_step(self, step: StepContext, optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
        """The proximal step, where steered with a new gamma; at the end of a phase, new alpha."""
        if self.fixed or step.index < step.begin:
            return {}
        if self.steered and not self.reweighted:
            self._reweight()
        units = {name: self._unit(name, optimizer) for name in self.weights}
        if self.steered and step.lr > 0:
            shrinks = (self._size(weight) / units[name] for name, weight in self.weights.items())
            gone, least = bracket(shrinks, step.density)
            self.gamma = math.sqrt(gone * least) / step.lr if gone else 0.0
        for name, weight in self.weights.items():
            self._shrink(weight, step.lr * self.gamma * units[name])
        # Phases are counted, because half precision may have left out the very step that one ends with.
        if (ended := sum(end <= step.index + 1 for end in self._phase_ends(step))) == self.ended:
            return {}
        self._reweight()
        self.ended = ended
        return {"reweighting": float(ended), **self.log_values()}

    def log_values(self) -> dict[str, float]:
        """gamma, and the part of the weights that is not zero."""
        return {"gamma": self.gamma, "achieved": self._density()}

    def settle(self) -> None:
        """The mask is where weights are not zero."""
        if not self.fixed:
            self.fixed = True
            for name, weight in self.weights.items():
                self.set_mask(name, self._size(weight.detach()) > 0)

    def state_dict(self) -> dict[str, Any]:
        """gamma, whether alpha is still 1, phases that have ended, and whether the mask is fixed."""
        return {"gamma": self.gamma, "reweighted": self.reweighted, "ended": self.ended, "fixed": self.fixed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.gamma, self.reweighted = state["gamma"], state["reweighted"]
        self.ended, self.fixed = state["ended"], state["fixed"]

    def _reweight(self) -> None:
        """alpha_i = 1 / (|w_i| + eps)."""
        for name, weight in self.weights.items():
            self.masks[name].alpha.copy_(1.0 / (self._size(weight) + self.options.eps))
        self.reweighted = True

    def _phase_ends(self, step: StepContext) -> list[int]:
        """Steps done when alpha is refreshed."""
        end = step.finish if self.options.finetune else step.total
        phases = self.options.reweightings + 1
        return [step.begin + (end - step.begin) * phase // phases for phase in range(1, phases)]

    def _size(self, weight: Tensor) -> Tensor:
        """|w|, or the norm of each block ``[out / r, in / c]``."""
        if self.target.block == (1, 1):
            return weight.abs()
        size: Tensor = block_scores(weight.square(), self.target.block).sqrt()
        return size

    def _unit(self, name: str, optimizer: torch.optim.Optimizer) -> Tensor:
        """Per block ``[out / r, in / c]``, t / (lr gamma)."""
        alpha = self.masks[name].alpha
        if not self.options.adaptive:
            return alpha
        group, state = optimizer.param_groups[0], optimizer.state[self.weights[name]]
        corrected = state["exp_avg_sq"] / (1.0 - group["betas"][1] ** float(state["step"]))
        rows, cols = self.target.block
        unit: Tensor = alpha / (block_scores(corrected.sqrt(), (rows, cols)) / (rows * cols) + group["eps"])
        return unit

    def _shrink(self, weight: Tensor, threshold: Tensor) -> None:
        """The proximal step, in place."""
        if self.target.block == (1, 1):
            # a - clamp(a, -t, t) is sign(a) max(|a| - t, 0), and +0.0 where |a| <= t.
            weight.sub_(torch.clamp(weight, -threshold, threshold))
            return
        size = self._size(weight)
        factor = torch.where(size > threshold, 1.0 - threshold / size, 0.0)
        weight.mul_(expand_blocks(factor, self.target.block))

    def _density(self) -> float:
        kept = sum(
            int(torch.count_nonzero(w * m.mask))
            for w, m in zip(self.weights.values(), self.masks.values(), strict=True)
        )
        return kept / sum(weight.numel() for weight in self.weights.values())


METHOD = ReweightedProximal
