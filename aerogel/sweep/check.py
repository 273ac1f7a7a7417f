"""What is wrong with a sweep's runs and shows before any of them begins."""

from __future__ import annotations

from collections.abc import Sequence

from aerogel.data.tasks import TASKS
from aerogel.errors import UsageError
from aerogel.sweep.plan import Run
from aerogel.system.options import option_names, read_options
from aerogel.train.methods import METHODS

__all__ = ["check_runs"]


def check_runs(runs: Sequence[Run]) -> None:
    """Whether each run's task and method are there, and take the options given to them.

    Raises:
        UsageError: there is no such task or method, it has no such option or no scores to keep, or the value cannot be
            meant.
    """
    for run in runs:
        TASKS.get(run.config.task).configured(run.config.task_options, run.config.task)
    methods = {run.config.method: METHODS.get(run.config.method) for run in runs}
    for run in runs:
        if run.config.freeze_mask:  # which is a method by itself
            continue
        name, given = run.config.method, run.config.options
        if run.config.save_scores and not methods[name].learns_scores():
            raise UsageError(
                f"--save-scores: method {name} learns no scores; give it a [[grid]] without, in a --config file"
            )
        unknown = next(
            (option for option in given if option not in option_names(methods[name].Options)), None
        )
        takers = [
            other for other, method in methods.items() if unknown and unknown in option_names(method.Options)
        ]
        if takers:
            raise UsageError(
                f"--option {unknown}: method {name} has no such option, as {' and '.join(takers)} has; "
                "give each method a [[grid]] of its own in a --config file"
            )
        read_options(methods[name].Options, given, f"method {name}")
