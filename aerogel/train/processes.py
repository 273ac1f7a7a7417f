"""Processes of a run: one, or as many as `torchrun` or `accelerate launch` starts.

Every process has a copy of the model and makes the same optimizer steps. The rows of a step are divided among the
processes, and the gradients are summed. Each process then computes masks, scores and moments by itself. Gradients are
summed here and not by DistributedDataParallel: so scores and penalties need no wrapper, and micro-batches of unequal
size no correction. Only the first process writes files.
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
    """Whether this is the process that writes and prints, according to the environment variable RANK."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Number of processes of this run, according to the environment variable WORLD_SIZE.

    Raises:
        UsageError: WORLD_SIZE is not a number.
    """
    return max(1, _number("WORLD_SIZE", 1))


class Processes:
    """The process group of a run. As a context manager, it leaves the group at the end.

    Args:
        device: "auto", "cpu" or "cuda"; with several processes on a machine, each uses its own GPU.

    Attributes:
        count: number of processes of the run.
        index: index of this process.
        device: device of this process.

    Raises:
        UsageError: the device does not exist, or the other processes cannot be reached.
    """

    def __init__(self, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("device cuda: torch finds no CUDA device; use device cpu")
        cuda = torch.cuda.is_available() and device != "cpu"
        self.count, self.index = 1, 0
        if process_count() > 1:
            try:
                dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
            except Exception as error:  # several types: missing variable, address in use, timeout
                reason = " ".join(str(error).split())[:120]
                raise UsageError(
                    f"the processes of this run cannot connect ({reason}); start them with torchrun"
                ) from error
            self.count, self.index = dist.get_world_size(), dist.get_rank()
        self.device = torch.device("cpu")
        if cuda:
            local = _number("LOCAL_RANK", 0)
            if local >= torch.cuda.device_count():
                raise UsageError(
                    f"process {self.index} has no GPU: this machine has {torch.cuda.device_count()}; "
                    "start one process per GPU or use device cpu"
                )
            torch.cuda.set_device(local)
            self.device = torch.device("cuda", local)

    @property
    def first(self) -> bool:
        """Whether this is the first process, which writes files."""
        return self.index == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place. All processes get the same bits.

        Raises:
            TrainingError: another process has ended.
        """
        if self.count == 1:
            return
        try:
            for pending in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                pending.wait()
        except RuntimeError as error:
            raise self._lost(error) from error

    def on_first(self, action: Callable[[], T]) -> T:
        """Run `action` in the first process and return its result in all.

        Raises:
            AerogelError: the error of `action` in the first process; in the others, a TrainingError that quotes it.
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
            raise self._lost(error) from error
        if failure:
            raise failure
        if result[1] is not None:
            raise TrainingError(f"process {self.index} stopped because the first process failed: {result[1]}")
        return cast(T, result[0])

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        if self.count > 1:
            dist.destroy_process_group()

    def _lost(self, error: RuntimeError) -> TrainingError:
        reason = " ".join(str(error).split())[:120]
        return TrainingError(
            f"process {self.index} lost the other processes ({reason}); fix what ended them and run again to resume"
        )


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise UsageError(
            f"environment variable {variable}={text!r}: must be a number; start the run with torchrun"
        )
    return int(text)
