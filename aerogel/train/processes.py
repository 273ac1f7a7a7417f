"""The processes of a run: one, or as many as `torchrun` or `accelerate launch` started.

Every process holds the whole model and makes the same optimizer steps: the rows of a step are dealt out, gradients are
summed, and what follows from them (masks, scores, moments) is computed by each process for itself. Gradients are summed
here rather than by DistributedDataParallel: scores and penalties need no wrapper, parts of unequal size no correction.
Files are written by the first process alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from aerogel.errors import AerogelError, TrainingError, UsageError

__all__ = ["Processes", "is_first", "process_count"]

T = TypeVar("T")


def is_first() -> bool:
    """Whether this is the process that writes and prints; asks the environment alone."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Processes of this run; asks the environment alone.

    Raises:
        UsageError: WORLD_SIZE is not a number.
    """
    return max(1, _number("WORLD_SIZE", 1))


class Processes:
    """This process among those of its run. A context manager: leaving it leaves the group.

    Args:
        device: "auto", "cpu" or "cuda"; with several processes on a machine, each takes a GPU of its own.

    Attributes:
        count: processes of the run.
        index: of this one.
        device: where this one computes.

    Raises:
        UsageError: there is no such device, or the other processes cannot be reached.
    """

    def __init__(self, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch sees no CUDA device; use --device cpu")
        cuda = torch.cuda.is_available() and device != "cpu"
        self.count, self.index = 1, 0
        if process_count() > 1:
            try:
                dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
            except (
                Exception
            ) as error:  # of several types, for a missing variable, an address in use, a timeout
                reason = " ".join(str(error).split())[:120]
                raise UsageError(
                    f"the processes of this run do not find each other ({reason}); start them with torchrun"
                ) from error
            self.count, self.index = dist.get_world_size(), dist.get_rank()
        self.device = torch.device("cpu")
        if cuda:
            local = _number("LOCAL_RANK", 0)
            if local >= torch.cuda.device_count():
                raise UsageError(
                    f"process {self.index} has no GPU of its own: {torch.cuda.device_count()} are here; "
                    "start as many processes or use --device cpu"
                )
            torch.cuda.set_device(local)
            self.device = torch.device("cuda", local)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; afterwards they have the same bits everywhere.

        Raises:
            TrainingError: another process has ended.
        """
        if self.count == 1:
            return
        try:
            for pending in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                pending.wait()
        except RuntimeError as error:
            raise self._left(error) from error

    def on_first(self, action: Callable[[], T]) -> T:
        """Run `action` in the first process; every process gets its result, or ends with its error.

        Raises:
            AerogelError: in the first process what `action` raised; in the others a TrainingError that quotes it.
        """
        if self.count == 1:
            return action()
        result: list[object] = [None, None]
        failure: AerogelError | None = None
        if self.first:
            try:
                result[0] = action()
            except AerogelError as error:
                failure, result[1] = error, str(error)
        try:
            dist.broadcast_object_list(result, src=0, device=torch.device("cpu"))
        except RuntimeError as error:
            raise self._left(error) from error
        if failure:
            raise failure
        if result[1] is not None:
            raise TrainingError(f"process {self.index} ends with the first one: {result[1]}")
        return cast(T, result[0])

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        if self.count > 1:
            dist.destroy_process_group()

    def _left(self, error: RuntimeError) -> TrainingError:
        reason = " ".join(str(error).split())[:120]
        return TrainingError(
            f"process {self.index} lost the others ({reason}); mend what ended them and run again to resume"
        )


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise UsageError(f"environment variable {variable} is {text!r}, not a number; start with torchrun")
    return int(text)
