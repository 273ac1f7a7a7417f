"""Kinds of heads: each module defines ``HEAD``, a `Task` class whose public methods a model with that head has."""
