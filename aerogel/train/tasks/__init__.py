"""Tasks. Each module of this folder is one task, found by its file name.

A task module defines ``TASK``, an instance of `aerogel.train.task.Task`.
"""

from aerogel.registry import Registry
from aerogel.train.task import Task

__all__ = ["TASKS"]

TASKS: Registry[Task] = Registry("task", "aerogel.train.tasks", "TASK")
