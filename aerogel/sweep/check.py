"""Checks of a sweep's runs before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence

from aerogel.data.tasks import TASKS
from aerogel.errors import UsageError
from aerogel.sweep.plan import Run
from aerogel.system.options import option_names, read_options
from aerogel.train.methods import METHODS

__all__ = ["check_runs"]


def check_runs(runs: Sequence[Run]) -> None:
    """Check that each run's task and method exist and accept the options given to them.

    Raises:
        UsageError: an unknown task, method or option, a value out of range, or --save-scores for a method without
            scores.
    """
    for run in runs:
        TASKS.get(run.config.task).configured(run.config.task_options, run.config.task)
    methods = {run.config.method: METHODS.get(run.config.method) for run in runs}
    for run in runs:
        if run.config.freeze_mask:  # replaces the method
            continue
        name, given = run.config.method, run.config.options
        if run.config.save_scores and not methods[name].learns_scores():
            raise UsageError(
                f"--save-scores: method {name} learns no scores; "
                "put it into a [[grid]] without save_scores in a --config file"
            )
        unknown = next(
            (option for option in given if option not in option_names(methods[name].Options)), None
        )
        accepting = [
            other for other, method in methods.items() if unknown and unknown in option_names(method.Options)
        ]
        if accepting:
            raise UsageError(
                f"--option {unknown}: {' and '.join(accepting)} accept it, method {name} does not; "
                "give each method its own [[grid]] in a --config file"
            )
        read_options(methods[name].Options, given, f"method {name}")
