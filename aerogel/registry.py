"""A registry whose names are file names.

A folder of modules is a registry: ``aerogel/train/methods/soft_movement.py`` is the method "soft-movement" and is
listed nowhere else. Underscores in the file name read as hyphens in the name; files that begin with an underscore
are private helpers. Each module offers one attribute of an agreed name, which is what `Registry.get` returns.
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
    """Names and objects of one folder of plug-in modules.

    Args:
        kind: what an entry is called in messages, e.g. "method".
        package: dotted name of the folder.
        attribute: name of the object that every module of the folder defines.
    """

    def __init__(self, kind: str, package: str, attribute: str) -> None:
        self.kind = kind
        self.package = package
        self.attribute = attribute

    def names(self) -> list[str]:
        """All known names, sorted. Imports the folder itself, none of its modules."""
        folder = importlib.import_module(self.package)
        found = (module.name for module in pkgutil.iter_modules(folder.__path__))
        return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))

    def module(self, name: str) -> str:
        """Dotted name of the module of the entry called `name`, which need not exist."""
        return f"{self.package}.{name.replace('-', '_')}"

    def get(self, name: str) -> T:
        """Import and return the entry called `name`.

        Raises:
            UsageError: no such name; the message lists the known ones and the nearest.
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

    Reads file names only: neither the folder nor its modules are imported, so `--help` can list them.
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = (module.name for module in pkgutil.iter_modules(folders or []))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))
