"""Heads, one module each: ``HEAD`` is a `Task` class whose public methods become methods of the model."""
