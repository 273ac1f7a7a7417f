"""What a sweep runs: every combination of the settings that have several values."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from aerogel import __version__
from aerogel.errors import UsageError
from aerogel.train.config import TrainConfig
from aerogel.train.recipe import check_known, field_types, read_toml, typed

__all__ = ["Run", "Sweep", "plan", "read_sweep", "settable"]

# Given for the sweep as a whole, or not at all.
_OF_SWEEP = ("out", "log", "tensorboard")
# Nobody waits for so many; a slip such as a list in the wrong place makes them quickly.
_MOST = 10_000


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        name: of its folder; begins with what tells it from the others, ends with `identity`.
        config: its configuration.
        swept: the settings that have several values in the sweep, and the method; options as "option NAME".
        identity: changes with every setting and file that could change the outcome.
    """

    name: str
    config: TrainConfig
    swept: dict[str, Any]
    identity: str

    def command(self) -> list[str]:
        """The arguments of `aerogel` that make this run."""
        words = ["train"]
        for field in fields(TrainConfig):
            value, flag = getattr(self.config, field.name), "--" + field.name.replace("_", "-")
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            if value == default or field.name == "progress":
                continue
            if field.name == "options":
                words += [
                    word for name, item in value.items() for word in ("--option", f"{name}={_text(item)}")
                ]
            elif isinstance(value, bool):
                words.append(flag if value else "--no-" + flag[2:])
            else:
                # One word, so that a value may begin with a hyphen.
                words.append(f"{flag}={_text(value)}")
        return words


@dataclass(frozen=True)
class Sweep:
    """A sweep as its file and flags describe it.

    Attributes:
        base: settings of all runs; a list is swept.
        grids: settings of a part of the runs each, which go before `base`.
        at: densities to interpolate to.
        metric: the metric to draw; None for the task's first.
    """

    base: dict[str, Any]
    grids: list[dict[str, Any]]
    at: tuple[float, ...] = ()
    metric: str | None = None


def settable() -> dict[str, Any]:
    """Types of the settings that a sweep may have, by name."""
    return {name: kind for name, kind in field_types(TrainConfig).items() if name not in _OF_SWEEP}


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's TOML file: settings of `aerogel train`, `[[grid]]` tables of more of them, `at` and `metric`.

    Raises:
        UsageError: it cannot be read, has an unknown key or a value of another type.
    """
    document, types = read_toml(path), settable()
    check_known(path, document, (*types, "grid", "at", "metric"))
    grids = document.pop("grid", [{}])
    if type(grids) is not list or not all(type(grid) is dict for grid in grids) or not grids:
        raise UsageError(f"{path}: grid must be tables, each begun with [[grid]]")
    at = document.pop("at", [])
    densities = tuple(typed(f"{path}: at", value, float) for value in (at if type(at) is list else [at]))
    metric = typed(f"{path}: metric", document.pop("metric"), str) if "metric" in document else None
    for grid in grids:
        check_known(path, grid, types)
    made = [_values(path, table, types) for table in (document, *grids)]
    return Sweep(made[0], made[1:], densities, metric)


def plan(sweep: Sweep, out: Path) -> list[Run]:
    """All runs of a sweep, below the folder `out`.

    Raises:
        UsageError: a setting is missing or out of range, there are none or too many runs, or two are the same.
    """
    settings = [setting for grid in sweep.grids for setting in _combinations(_merged(sweep.base, grid))]
    flat = [_flat(setting) for setting in settings]
    runs = []
    for setting, row in zip(settings, flat, strict=True):
        if missing := [name for name in ("task",) if name not in setting]:
            raise UsageError(f"--{missing[0]} is missing; give it as a flag or in the --config file")
        swept = {"method": row["method"]} | {name: row[name] for name in row if _varies(name, row, flat)}
        identity = _identity(TrainConfig(out=out, **setting))
        words = [
            str(swept["method"]),
            *(f"{name}={_text(swept[name])}" for name in sorted(swept) if name != "method"),
        ]
        name = f"{re.sub(r'[^A-Za-z0-9_.=+-]+', '-', '-'.join(words))[:80]}-{identity}"
        runs.append(
            Run(name, TrainConfig(out=out / "runs" / name, progress=False, **setting), swept, identity)
        )
    names = [run.name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"the sweep has the run {twice} twice; take one out")
    return runs


def _varies(name: str, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the runs of the method of `row` differ in a setting."""
    return any(
        row["method"] == other["method"] and (name not in other or other[name] != row[name]) for other in rows
    )


def _values(path: Path, table: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a table of the file, each of its field's type; lists of them stay lists."""
    made: dict[str, Any] = {}
    for key, value in table.items():
        what = f"{path}: {key}"
        if key == "options" and type(value) is dict:
            made[key] = {
                name: [typed(what, {name: one}, types[key])[name] for one in item]
                if type(item) is list
                else item
                for name, item in value.items()
            }
            typed(what, {n: i for n, i in made[key].items() if type(i) is not list}, types[key])
        else:
            made[key] = (
                [typed(what, one, types[key]) for one in value]
                if type(value) is list
                else typed(what, value, types[key])
            )
    return made


def _merged(base: Mapping[str, Any], grid: Mapping[str, Any]) -> dict[str, Any]:
    options = {**base.get("options", {}), **grid.get("options", {})}
    return {**base, **grid} | ({"options": options} if options else {})


def _combinations(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every choice of one value for each setting that has a list of them."""
    flat: dict[tuple[str, ...], Any] = {(name,): value for name, value in table.items() if name != "options"}
    flat |= {("options", name): value for name, value in table.get("options", {}).items()}
    choices: list[Sequence[Any]] = [value if type(value) is list else [value] for value in flat.values()]
    for key, values in zip(flat, choices, strict=True):
        if not values:
            raise UsageError(f"{' '.join(key)} has an empty list of values; give one, or leave it out")
    count = 1
    for values in choices:
        count *= len(values)
    if count > _MOST:
        raise UsageError(f"the sweep has {count} runs, more than {_MOST}; make it smaller")
    made = []
    for chosen in itertools.product(*choices):
        setting: dict[str, Any] = {}
        for key, value in zip(flat, chosen, strict=True):
            if len(key) == 1:
                setting[key[0]] = value
            else:
                setting.setdefault("options", {})[key[1]] = value
        made.append(setting)
    return made


def _flat(setting: Mapping[str, Any]) -> dict[str, Any]:
    """A setting with its method, given or not, and with its options beside the rest, as "option NAME"."""
    options = {f"option {name}": value for name, value in setting.get("options", {}).items()}
    return (
        {"method": "dense"} | {name: value for name, value in setting.items() if name != "options"} | options
    )


def _identity(config: TrainConfig) -> str:
    """Eight digits for the settings, and for size and time of the files that are read."""
    stamps = []
    for place in (config.model, config.data, config.teacher):
        # os.path says no, and does not raise, where a hub id is no path at all.
        if place is not None and os.path.isdir(place):  # noqa: PTH112
            stamps += [
                (str(file), file.stat().st_size, file.stat().st_mtime_ns)
                for file in sorted(Path(place).rglob("*")) if file.is_file()
            ]  # fmt: skip
    known = json.dumps([__version__, config.settings(), stamps], sort_keys=True, default=str)
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def _text(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
