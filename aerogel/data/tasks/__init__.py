"""Tasks, one a module; the file name is the task's name.

A module defines ``TASK``, an instance of `aerogel.data.task.Task`.
"""

from aerogel.data.task import Task
from aerogel.registry import Registry

__all__ = ["TASKS"]

TASKS: Registry[Task] = Registry("task", "aerogel.data.tasks", "TASK")
