"""Plug-ins that are found by their file names.

A package of modules is a registry: ``aerogel/train/methods/soft_movement.py`` is the method "soft-movement", and no
list names it. Underscores in a file name become hyphens in the name; files that begin with an underscore are private
helpers. Each module defines one object under an agreed name, which `Registry.get` returns.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from typing import Generic, TypeVar, cast

from aerogel.errors import UsageError

__all__ = ["Registry", "plugin_names"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and objects of one package of plug-in modules.

    Args:
        kind: noun for an entry in messages, e.g. "method".
        package: dotted name of the package.
        attribute: name of the object that every module defines.
    """

    def __init__(self, kind: str, package: str, attribute: str) -> None:
        self.kind = kind
        self.package = package
        self.attribute = attribute

    def names(self) -> list[str]:
        """All names, sorted. Imports neither the package nor its modules, only the packages above it.

        Raises:
            ModuleNotFoundError: the package does not exist.
        """
        return plugin_names(self.package)

    def module(self, name: str) -> str:
        """Dotted name of the module for the entry `name`, which need not exist."""
        return f"{self.package}.{name.replace('-', '_')}"

    def get(self, name: str) -> T:
        """Import the module of the entry `name` and return its object.

        Raises:
            UsageError: there is no such entry; the message lists all names and suggests the nearest.
        """
        known = self.names()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"unknown {self.kind} {name!r}; known: {', '.join(known)}{hint}")
        module = importlib.import_module(self.module(name))
        return cast(T, getattr(module, self.attribute))


def plugin_names(package: str) -> list[str]:
    """Names of the plug-ins in the folder `package` (a dotted name), sorted.

    Reads file names only: neither the package nor its modules are imported, so `--help` can list them.

    Raises:
        ModuleNotFoundError: the package does not exist.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package {package}", name=package)
    modules = (module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))
