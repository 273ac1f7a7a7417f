"""Optimal BERT surgeon: second-order pruning with an empirical Fisher matrix (Kurtic et al. 2022, section 3).

With g_1 ... g_m the gradients of the last m steps before a pruning event, and F in diagonal blocks of B weights:

    F = damp I + (1 / m) sum over k of g_k g_k^T
    score of weight q    w_q^2 / (2 [F^-1]_qq)                               increase of the loss if q is removed
    update               - sum over removed q of w_q F^-1 e_q / [F^-1]_qq    compensation by the remaining weights

The removed weights are then set to zero. For r x c blocks, the weights of a block b are removed together: its score is
w_b^T ([F^-1]_bb)^-1 w_b / 2, its update - F^-1 E_b ([F^-1]_bb)^-1 w_b. Interactions between the removals of one event
are ignored. The paper computes F^-1 by m rank-one updates. Here F is summed and inverted at the event, in float64,
which gives the same matrix for a fraction of the work in each step.

Events are spread evenly over the schedule's descent, the first at its beginning. The density of the first event is
`first`; the others follow the cubic schedule from there to the target. Between events, the remaining weights are
trained; removed weights get no gradient and stay zero. The paper ranks globally.

Memory: slightly more than half of the symmetric F, in float32: 0.6 B numbers per weight, 1.2 GiB for the 10.6 million
weights of MiniLM-L6-H384 with B = 50, and up to 8 gradients.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aerogel.errors import TrainingError, UsageError
from aerogel.train.method import Method, SparsityConfig, StepContext

__all__ = ["METHOD", "Fisher", "Obert", "ObertOptions"]

# Number of gradients that are collected before they are added to F, which is then read and written once for all.
_PENDING = 8
# Bytes of F that are inverted at once, in float64.
_CHUNK = 80_000_000


@dataclass(frozen=True)
class ObertOptions:
    """Options of the optimal BERT surgeon.

    Attributes:
        gradients: maximum m; fewer if there are fewer steps since the last event.
        damp: damping of F.
        fisher_block: B; None for 50, or for blocks the largest multiple of r c up to 32 (at least r c).
        events: number of pruning events.
        first: density of the first event, if it is above that of the run.
    """

    gradients: int = 1024
    damp: float = 1e-7
    fisher_block: int | None = None
    events: int = 7
    first: float = 0.3

    def __post_init__(self) -> None:
        for name in ("gradients", "events", "fisher_block"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"option {name}={value}: must be at least 1")
        if self.damp <= 0:
            raise UsageError(f"option damp={self.damp:g}: must be above 0")
        if not 0 < self.first <= 1:
            raise UsageError(f"option first={self.first:g}: must be above 0 and at most 1")


class Fisher:
    """Sum of g g^T of one matrix, in diagonal blocks ``[n, B, B]`` of its weights in the order of `rows`.

    Only the upper triangle is stored, in strips of a fifth of the rows: strip s has the rows s k to (s + 1) k - 1 and
    the columns from s k on. Strips can be computed by plain matrix products; a packed triangle cannot.

    Args:
        shape: (out, in) of the matrix.
        block: (r, c) pruned together; the weights of a block are adjacent.
        size: B, a multiple of r c.
        device: device of the sum.
    """

    def __init__(
        self, shape: tuple[int, int], block: tuple[int, int], size: int, device: torch.device
    ) -> None:
        self.shape, self.block, self.size = shape, block, size
        self.count = -(-shape[0] * shape[1] // size)
        self.height, shapes = _strips(size)
        self.strips = [torch.zeros(self.count, *strip, device=device) for strip in shapes]
        self.pending: list[Tensor] = []
        self.gradients = 0

    @staticmethod
    def bytes_of(weights: int, size: int) -> int:
        """Memory of F in bytes, for a matrix of `weights` weights."""
        return 4 * -(-weights // size) * sum(rows * columns for rows, columns in _strips(size)[1])

    def rows(self, matrix: Tensor) -> Tensor:
        """Reshape ``[out, in]`` to ``[n, B]``: r x c blocks in row-major order, padded with zeros."""
        (out, inner), (r, c) = self.shape, self.block
        flat = matrix.reshape(out // r, r, inner // c, c).transpose(1, 2).reshape(-1)
        return nn.functional.pad(flat, (0, self.count * self.size - flat.numel())).reshape(
            self.count, self.size
        )

    def matrix(self, rows: Tensor) -> Tensor:
        """Inverse of `rows`."""
        (out, inner), (r, c) = self.shape, self.block
        flat = rows.reshape(-1)[: out * inner]
        return flat.reshape(out // r, inner // c, r, c).transpose(1, 2).reshape(out, inner)

    def add(self, gradient: Tensor) -> None:
        """Add one gradient ``[out, in]``."""
        self.pending.append(self.rows(gradient.float()).clone())
        self.gradients += 1
        if len(self.pending) == _PENDING:
            self._flush()

    def inverses(self, damp: float) -> Iterator[tuple[slice, Tensor]]:
        """Yield F^-1 in chunks, float64 ``[chunk, B, B]``, with the slice of the n blocks that each covers."""
        self._flush()
        blocks = max(1, _CHUNK // (8 * self.size**2))
        for start in range(0, self.count, blocks):
            part = slice(start, min(start + blocks, self.count))
            full = torch.zeros(
                part.stop - start, self.size, self.size, dtype=torch.float64, device=self.strips[0].device
            )
            for top, strip in zip(range(0, self.size, self.height), self.strips, strict=True):
                values = strip[part].double() / max(1, self.gradients)
                full[:, top:, top : top + strip.shape[1]] = values.transpose(1, 2)
                full[:, top : top + strip.shape[1], top:] = values
            full.diagonal(dim1=1, dim2=2).add_(damp)
            # Cholesky takes half as long as LU.
            factor, failed = torch.linalg.cholesky_ex(full)
            inverse = torch.cholesky_inverse(factor)
            if bool(failed.any()):  # rounding of a float32 sum can exceed `damp` and make F indefinite
                inverse[failed > 0] = torch.linalg.inv(full[failed > 0])
            yield part, inverse

    def state_dict(self) -> dict[str, Any]:
        """Sum, pending gradients and their number."""
        return {"strips": self.strips, "pending": self.pending, "gradients": self.gradients}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        device = self.strips[0].device
        self.strips = [strip.to(device) for strip in state["strips"]]
        self.pending = [rows.to(device) for rows in state["pending"]]
        self.gradients = state["gradients"]

    def _flush(self) -> None:
        if not self.pending:
            return
        g = torch.stack(self.pending, 1)  # [n, pending, B]
        for top, strip in zip(range(0, self.size, self.height), self.strips, strict=True):
            strip.baddbmm_(g[:, :, top : top + strip.shape[1]].transpose(1, 2), g[:, :, top:])
        self.pending = []


class Obert(Method):
    """Remove weights in a few events, by their effect on the loss, and update the remaining ones to compensate."""

    Options = ObertOptions

    def __init__(
        self, matrices: Mapping[str, nn.Linear], sparsity: SparsityConfig, options: Any = None
    ) -> None:
        super().__init__(matrices, sparsity, options)
        block_size = sparsity.block[0] * sparsity.block[1]
        size = self.options.fisher_block or (50 if block_size == 1 else max(1, 32 // block_size) * block_size)
        if size % block_size:
            r, c = sparsity.block
            raise UsageError(
                f"option fisher_block={size}: must be a multiple of {block_size} for block {r}x{c}"
            )
        self.size = size
        self.fisher: dict[str, Fisher] = {}
        self.density = 1.0

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """Also check that gradients precede the first event, and that F fits into memory."""
        super().check(steps)
        if self._events(steps(0))[0] == 0:
            raise UsageError(
                "method obert needs gradients before the descent, which begins with the first step; "
                "set warmup and initial_warmup above 0"
            )
        needed = sum(Fisher.bytes_of(weight.numel(), self.size) for weight in self.weights.values())
        device = next(iter(self.weights.values())).device
        available = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else _memory()
        if needed > available:
            raise UsageError(
                f"the Fisher matrix of method obert, in blocks of {self.size} weights, needs {needed / 2**30:.1f} GiB; "
                f"{available / 2**30:.1f} GiB are available; use a smaller block or option fisher_block"
            )

    def before_step(self, step: StepContext) -> None:
        """Prune if an event is due."""
        if step.index in self._events(step):
            first = max(self.options.first, self.sparsity.density)
            self._prune(self.sparsity.density + (first - self.sparsity.density) * (1.0 - step.progress))

    def after_backward(self, step: StepContext) -> None:
        """Collect the gradient if one of the next m steps begins with an event."""
        next_events = [event for event in self._events(step) if event > step.index]
        if not next_events or next_events[0] - step.index > self.options.gradients:
            return
        gradients = {}
        for name, weight in self.weights.items():
            if weight.grad is None:
                raise TrainingError(
                    f"{name} has no gradient; method obert can prune only weights that are trained"
                )
            gradients[name] = weight.grad
        # With fp16 some gradients overflow, and the optimizer skips the step. F would keep the Inf until the event.
        if all(bool(gradient.isfinite().all()) for gradient in gradients.values()):
            for name, gradient in gradients.items():
                self._fisher(name).add(gradient)

    def finalize(self) -> None:
        """Prune to the final density, if the schedule ends with the run."""
        if self.density > self.sparsity.density:
            self._prune(self.sparsity.density)

    def scores(self) -> dict[str, Tensor]:
        """Per block ``[out / r, in / c]``, the increase of the loss if it is removed."""
        block_size = self.sparsity.block[0] * self.sparsity.block[1]
        result = {}
        for name, weight in self.weights.items():
            fisher = self._fisher(name)
            rows = fisher.rows(weight.detach() * self.masks[name].mask).double()
            costs = torch.cat(
                [_costs(inv, rows[part], block_size) for part, inv in fisher.inverses(self.options.damp)]
            )
            (out, inner), (r, c) = fisher.shape, fisher.block
            result[name] = costs.reshape(-1)[: weight.numel() // block_size].reshape(out // r, inner // c)
        return result

    def log_values(self) -> dict[str, float]:
        """Density after the last event."""
        return {"achieved": self.density}

    def state_dict(self) -> dict[str, Any]:
        """Gradients since the last event, and the density after it."""
        return {"density": self.density, "fisher": {name: f.state_dict() for name, f in self.fisher.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        self.density = state["density"]
        for name, fisher in state["fisher"].items():
            self._fisher(name).load_state_dict(fisher)

    @torch.no_grad()
    def _prune(self, density: float) -> None:
        """Run one pruning event."""
        self.update(density)
        block_size = self.sparsity.block[0] * self.sparsity.block[1]
        for name, weight in self.weights.items():
            fisher, mask = self._fisher(name), self.masks[name].mask
            rows, removed = fisher.rows(weight).double(), fisher.rows(1.0 - mask).bool()
            for part, inverse in fisher.inverses(self.options.damp):
                rows[part] -= _corrections(inverse, rows[part], removed[part], block_size)
            weight.copy_(fisher.matrix(rows)).masked_fill_(mask == 0, 0.0)
        self.fisher = {}
        self.density = density

    def _events(self, step: StepContext) -> list[int]:
        """Indices of the steps that begin with an event. The last is `finish`, which may be after the run."""
        count = self.options.events
        if count == 1:
            return [step.finish]
        return [step.begin + (step.finish - step.begin) * k // (count - 1) for k in range(count)]

    def _fisher(self, name: str) -> Fisher:
        if name not in self.fisher:
            weight = self.weights[name]
            shape = (weight.shape[0], weight.shape[1])
            self.fisher[name] = Fisher(shape, self.sparsity.block, self.size, weight.device)
        return self.fisher[name]


def _strips(size: int) -> tuple[int, list[tuple[int, int]]]:
    """Height of the strips of the upper triangle of ``[B, B]``, and the shape of each strip."""
    height = -(-size // 5)
    return height, [(min(height, size - top), size - top) for top in range(0, size, height)]


def _memory() -> float:
    """Memory of this machine, or of its container, in bytes; infinity if the system does not report it."""
    try:
        size = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        size = float("inf")
    with contextlib.suppress(OSError, ValueError):  # "max" means no limit
        size = min(size, float(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))))
    return size


def _diagonal(inverse: Tensor, block_size: int) -> Tensor:
    """[F^-1]_bb of every pruning block b: ``[n, B / t, t, t]`` of F^-1 ``[n, B, B]``, with t = r c."""
    n, size, _ = inverse.shape
    grid = inverse.reshape(n, size // block_size, block_size, size // block_size, block_size)
    blocks: Tensor = grid.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    return blocks


def _costs(inverse: Tensor, rows: Tensor, block_size: int) -> Tensor:
    """w_b^T ([F^-1]_bb)^-1 w_b / 2: ``[n, B / t]`` of weights ``[n, B]``."""
    w = rows.reshape(rows.shape[0], -1, block_size)
    return (w * _solved(inverse, w, block_size)).sum(-1) / 2


def _corrections(inverse: Tensor, rows: Tensor, removed: Tensor, block_size: int) -> Tensor:
    """Sum over the removed blocks b of F^-1 E_b ([F^-1]_bb)^-1 w_b: ``[n, B]``."""
    w = rows.reshape(rows.shape[0], -1, block_size)
    solved = _solved(inverse, w, block_size).reshape(rows.shape) * removed
    return (inverse @ solved.unsqueeze(-1)).squeeze(-1)


def _solved(inverse: Tensor, w: Tensor, block_size: int) -> Tensor:
    """([F^-1]_bb)^-1 w_b, ``[n, B / t, t]``."""
    blocks = _diagonal(inverse, block_size)
    if block_size == 1:
        return w / blocks[..., 0]
    solved: Tensor = torch.linalg.solve(blocks, w.unsqueeze(-1)).squeeze(-1)
    return solved


METHOD = Obert
