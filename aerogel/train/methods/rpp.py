"""Reweighted proximal pruning (Guo et al. 2019, section 3).

    minimise over w   f(w) + gamma sum over i of alpha_i |w_i|

Inner loop, each step t: the optimizer's step on f alone gives a, then the proximal step

    w_i = sign(a_i) max(|a_i| - t_i, 0),   t_i = lr_t gamma alpha_i

so the penalty affects neither the gradient nor Adam's moments. With `adaptive`, the step is taken in Adam's metric:
t_i = lr_t gamma alpha_i / (sqrt(v_i) + eps_Adam), v being the second moments after bias correction.

Outer loop: alpha starts at 1; at the end of each phase but the last, alpha_i = 1 / (|w_i| + eps). Phases have equal
length and span the time from the first step of the schedule's descent to the end of the run (with `finetune`, to the
end of the descent).

The exact zeros define the mask. In the paper they are found in pre-training. `finetune` fixes them at the end of the
descent; the rest of the run trains the remaining weights.

Blocks are an extension: |w_i| becomes the Euclidean norm of block b, the step becomes w_b = a_b max(1 - t_b / |a_b|, 0)
(group lasso), and sqrt(v) becomes its mean over the block.

If the run sets a density v_t, each step computes the gamma that yields it. With u_i = |a_i| lr_t gamma / t_i, lr_t
gamma is the geometric mean of two values: the largest u of the (1 - v_t) n pruned weights and the smallest u of the
v_t n kept weights.
Also, alpha is refreshed before the first such step, which the paper does not do. With alpha = 1, a gamma near 1 is
needed to keep a weight at zero against Adam, whose steps have size lr_t, and then all weights shrink as fast as they
learn. With alpha = 1 / eps, a zero weight stays at zero.
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
from aerogel.train.density_controller import bracket, controls_density
from aerogel.train.method import Mask, Method, SparsityConfig, StepContext

__all__ = ["METHOD", "ReweightedMask", "ReweightedProximal", "RppOptions"]


@dataclass(frozen=True)
class RppOptions:
    """Options of reweighted proximal pruning.

    Attributes:
        gamma: weight of the penalty; None if the run sets a density.
        eps: added to |w| when alpha is refreshed.
        reweightings: number of times that alpha is refreshed.
        adaptive: divide thresholds by sqrt(v) + eps_Adam.
        finetune: fix the zeros at the end of the schedule's descent; then train the remaining weights, without penalty.
    """

    gamma: float | None = None
    eps: float = 1e-9
    reweightings: int = 30
    adaptive: bool = False
    finetune: bool = False

    def __post_init__(self) -> None:
        if self.gamma is not None and self.gamma < 0:
            raise UsageError(f"option gamma={self.gamma:g}: must be 0 or more")
        if self.eps <= 0:
            raise UsageError(f"option eps={self.eps:g}: must be above 0")
        if self.reweightings < 0:
            raise UsageError(f"option reweightings={self.reweightings}: must be 0 or more")


class ReweightedMask(Mask):
    """A mask, all ones until it is fixed, and the weights alpha ``[out / r, in / c]`` of the penalty."""

    alpha: Tensor

    def __init__(self, weight: Tensor, block: tuple[int, int]) -> None:
        super().__init__(weight)
        rows, cols = weight.shape[0] // block[0], weight.shape[1] // block[1]
        self.register_buffer("alpha", torch.ones(rows, cols, dtype=weight.dtype, device=weight.device))


class ReweightedProximal(Method):
    """Shrink weights to exact zeros after each optimizer step, small weights faster."""

    Options = RppOptions
    density_is_outcome = True
    masks: dict[str, ReweightedMask]  # type: ignore[assignment]  # narrower than the base's: mask_for creates them

    def __init__(
        self, matrices: Mapping[str, nn.Linear], sparsity: SparsityConfig, options: Any = None
    ) -> None:
        gamma = (options or RppOptions()).gamma
        controlled = controls_density(sparsity, "gamma", gamma)
        super().__init__(matrices, sparsity, options)
        self.controlled, self.gamma, self.fixed = controlled, gamma or 0.0, False
        self.reweighted, self.phases_ended = False, 0

    def mask_for(self, weight: Tensor) -> ReweightedMask:
        """Create a mask of ones, with alpha = 1."""
        return ReweightedMask(weight, self.sparsity.block)

    def before_step(self, step: StepContext) -> None:
        """With `finetune`, fix the mask at the end of the descent."""
        if self.options.finetune and step.index > step.finish and not self.fixed:
            self.finalize()

    @torch.no_grad()
    def after_step(self, step: StepContext, optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
        """Update gamma if the run sets a density, take the proximal step, and refresh alpha at the end of a phase."""
        if self.fixed or step.index < step.begin:
            return {}
        if self.controlled and not self.reweighted:
            self._reweight()
        units = {name: self._unit(name, optimizer) for name in self.weights}
        if self.controlled and step.lr > 0:
            sizes = (self._size(weight) / units[name] for name, weight in self.weights.items())
            pruned, kept = bracket(sizes, step.density)
            self.gamma = math.sqrt(pruned * kept) / step.lr if pruned else 0.0
        for name, weight in self.weights.items():
            self._shrink(weight, step.lr * self.gamma * units[name])
        # Ended phases are counted, because fp16 may have skipped the last step of a phase.
        if (ended := sum(end <= step.index + 1 for end in self._phase_ends(step))) == self.phases_ended:
            return {}
        self._reweight()
        self.phases_ended = ended
        return {"reweighting": float(ended), **self.log_values()}

    def log_values(self) -> dict[str, float]:
        """gamma, and the fraction of nonzero weights."""
        return {"gamma": self.gamma, "achieved": self._density()}

    def finalize(self) -> None:
        """Set the masks to the nonzero weights."""
        if not self.fixed:
            self.fixed = True
            for name, weight in self.weights.items():
                self.set_mask(name, self._size(weight.detach()) > 0)

    def state_dict(self) -> dict[str, Any]:
        """gamma, whether alpha was refreshed, the number of ended phases, and whether the mask is fixed."""
        return {
            "gamma": self.gamma,
            "reweighted": self.reweighted,
            "phases_ended": self.phases_ended,
            "fixed": self.fixed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        self.gamma, self.reweighted = state["gamma"], state["reweighted"]
        self.phases_ended, self.fixed = state["phases_ended"], state["fixed"]

    def _reweight(self) -> None:
        """Set alpha_i = 1 / (|w_i| + eps)."""
        for name, weight in self.weights.items():
            self.masks[name].alpha.copy_(1.0 / (self._size(weight) + self.options.eps))
        self.reweighted = True

    def _phase_ends(self, step: StepContext) -> list[int]:
        """Numbers of completed steps after which alpha is refreshed."""
        end = step.finish if self.options.finetune else step.total
        phases = self.options.reweightings + 1
        return [step.begin + (end - step.begin) * phase // phases for phase in range(1, phases)]

    def _size(self, weight: Tensor) -> Tensor:
        """|w|, or the norm of each block ``[out / r, in / c]``."""
        if self.sparsity.block == (1, 1):
            return weight.abs()
        size: Tensor = block_scores(weight.square(), self.sparsity.block).sqrt()
        return size

    def _unit(self, name: str, optimizer: torch.optim.Optimizer) -> Tensor:
        """Return t / (lr gamma) of each block ``[out / r, in / c]``."""
        alpha = self.masks[name].alpha
        if not self.options.adaptive:
            return alpha
        group, state = optimizer.param_groups[0], optimizer.state[self.weights[name]]
        corrected = state["exp_avg_sq"] / (1.0 - group["betas"][1] ** float(state["step"]))
        rows, cols = self.sparsity.block
        unit: Tensor = alpha / (block_scores(corrected.sqrt(), (rows, cols)) / (rows * cols) + group["eps"])
        return unit

    def _shrink(self, weight: Tensor, threshold: Tensor) -> None:
        """Take the proximal step, in place."""
        if self.sparsity.block == (1, 1):
            # a - clamp(a, -t, t) is sign(a) max(|a| - t, 0), and +0.0 where |a| <= t.
            weight.sub_(torch.clamp(weight, -threshold, threshold))
            return
        size = self._size(weight)
        factor = torch.where(size > threshold, 1.0 - threshold / size, 0.0)
        weight.mul_(expand_blocks(factor, self.sparsity.block))

    def _density(self) -> float:
        kept = sum(
            int(torch.count_nonzero(w * m.mask))
            for w, m in zip(self.weights.values(), self.masks.values(), strict=True)
        )
        return kept / sum(weight.numel() for weight in self.weights.values())


METHOD = ReweightedProximal
