"""The runs of a sweep: every combination of the settings that have several values."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from aerogel import __version__
from aerogel.errors import UsageError
from aerogel.system.toml_config import check_known, field_types, read_toml, typed
from aerogel.train.config import TrainConfig

__all__ = ["TABLES", "Run", "Sweep", "plan", "read_sweep", "settable"]

TABLES = {"option": "options", "task-option": "task_options"}
"""Settings that are tables, by the prefix of their entries' flat names: "option lambda", "task-option stride"."""

# Settings, besides options, that have no effect on a run without pruning.
_OF_PRUNING = (
    "density", "block", "scope", "score_lr", "initial_warmup", "final_warmup", "final_epochs", "save_scores",
)  # fmt: skip
# Settings that a sweep chooses for its runs.
_OF_SWEEP = ("out", "log", "tensorboard")
# Most runs of a sweep. A mistake, such as a list in the wrong setting, soon exceeds it.
_MAX_RUNS = 1000
# Name of a run's folder, or of a file next to it; a label may contain dots.
_NAME = re.compile(r"(?P<name>.*-(?P<identity>[0-9a-f]{8}))(\.json|\.log\.jsonl|\.state\.pt)?$")


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        name: name of its folder: the settings that vary, then `identity`.
        config: its configuration.
        swept: the method, and by flat name the settings that vary among the runs of the method.
        identity: hash of every setting and input file that could change the outcome.
    """

    name: str
    config: TrainConfig
    swept: dict[str, Any]
    identity: str

    def command(self) -> list[str]:
        """The arguments of `aerogel` that start this run."""
        words = ["train"]
        for field in fields(TrainConfig):
            value, flag = getattr(self.config, field.name), "--" + field.name.replace("_", "-")
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            if value == default or field.name == "progress":
                continue
            if word := next((word for word, name in TABLES.items() if name == field.name), None):
                words += [f"--{word}={name}={_text(item)}" for name, item in value.items()]
            elif isinstance(value, bool):
                words.append(flag if value else "--no-" + flag[2:])
            else:
                # One argument, so that a value may begin with a hyphen.
                words.append(f"{flag}={_text(value)}")
        return words


@dataclass(frozen=True)
class Sweep:
    """A sweep. Settings are keyed by flat name: options are "option NAME".

    Attributes:
        base: settings of all runs; a list is swept.
        grids: settings of one part of the runs each; they override `base`.
        interpolate_density: densities at which metrics are interpolated.
        metric: metric to plot and to compare by; None for the task's first.
    """

    base: dict[str, Any]
    grids: list[dict[str, Any]]
    interpolate_density: tuple[float, ...] = ()
    metric: str | None = None


def settable() -> dict[str, Any]:
    """Types of the settings that a sweep accepts, by name."""
    return {name: kind for name, kind in field_types(TrainConfig).items() if name not in _OF_SWEEP}


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's TOML file: settings of `aerogel train`, `[[grid]]` tables, `interpolate_density` and `metric`.

    Raises:
        UsageError: the file cannot be read, or has an unknown key or a value of the wrong type.
    """
    document, types = read_toml(path), settable()
    check_known(path, document, (*types, "grid", "interpolate_density", "metric"))
    grids = document.pop("grid", [{}])
    if type(grids) is not list or not all(type(grid) is dict for grid in grids) or not grids:
        raise UsageError(f"{path}: grid must be a list of tables; write each as [[grid]]")
    given = document.pop("interpolate_density", [])
    densities = tuple(
        typed(f"{path}: interpolate_density", value, float)
        for value in (given if type(given) is list else [given])
    )
    metric = typed(f"{path}: metric", document.pop("metric"), str) if "metric" in document else None
    for grid in grids:
        check_known(path, grid, types)
    tables = [_values(path, table, types) for table in (document, *grids)]
    return Sweep(tables[0], tables[1:], densities, metric)


def plan(sweep: Sweep, out: Path) -> list[Run]:
    """The runs of a sweep; their checkpoints go below the folder `out`.

    If the sweep has other methods too, its dense runs are their reference: they ignore the settings of pruning, and
    duplicates among them run once.

    Raises:
        UsageError: a setting is missing or out of range, there are too many runs, or two runs are equal.
    """
    flat = [
        {"method": "dense"} | setting
        for grid in sweep.grids
        for setting in _combinations({**sweep.base, **grid})
    ]
    if any(row["method"] != "dense" for row in flat):
        flat = _with_references(flat)
    _check_count(len(flat))
    runs, earlier = [], _earlier(out / "runs")
    for row in flat:
        if "task" not in row:
            raise UsageError("--task is required; set it as a flag or in the --config file")
        setting = _fields(row)
        swept = {"method": row["method"]} | {name: row[name] for name in row if _varies(name, row, flat)}
        identity = _identity(TrainConfig(out=out, **setting))
        words = [
            str(swept["method"]),
            *(f"{name}={_text(swept[name])}" for name in sorted(swept) if name != "method"),
        ]
        label = re.sub(r"[^A-Za-z0-9_.=+-]+", "-", "-".join(words))[:80]
        # A run keeps its earlier name even if more settings vary now.
        name = earlier.get(identity, f"{label}-{identity}")
        runs.append(
            Run(name, TrainConfig(out=out / "runs" / name, progress=False, **setting), swept, identity)
        )
    names = [run.name for run in runs]
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"the sweep has the run {duplicate} twice; remove one")
    return runs


def _with_references(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` with the settings of pruning removed from dense ones, and without duplicates of these."""
    unique: list[dict[str, Any]] = []
    for row in rows:
        # --freeze-mask replaces the method, and checks its own settings.
        if row["method"] != "dense" or row.get("freeze_mask"):
            unique.append(row)
            continue
        kept = {name: row[name] for name in row if name not in _OF_PRUNING and not name.startswith("option ")}
        if kept not in unique:
            unique.append(kept)
    return unique


def _varies(name: str, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs of the method of `row` differ in the setting `name`."""
    return any(
        row["method"] == other["method"] and (name not in other or other[name] != row[name]) for other in rows
    )


def _values(path: Path, table: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a table of the file by flat name, converted to the types of their fields; lists stay lists."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        what = f"{path}: {key}"
        word = next((word for word, field in TABLES.items() if field == key), None)
        if word is None:
            values[key] = _each(value, lambda one, what=what, key=key: typed(what, one, types[key]))  # type: ignore[misc]
            continue
        if type(value) is not dict:
            typed(what, value, types[key])
        for name, item in value.items():
            values[f"{word} {name}"] = _each(
                item,
                lambda one, what=what, key=key, name=name: typed(what, {name: one}, types[key])[name],  # type: ignore[misc]
            )
    return values


def _each(value: Any, check: Callable[[Any], Any]) -> Any:
    return [check(one) for one in value] if type(value) is list else check(value)


def _combinations(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every choice of one value for each setting that has a list of them."""
    choices: list[Sequence[Any]] = [value if type(value) is list else [value] for value in table.values()]
    for name, values in zip(table, choices, strict=True):
        if not values:
            raise UsageError(f"{name} is an empty list; give a value, or remove the setting")
    _check_count(math.prod(map(len, choices)))
    return [dict(zip(table, chosen, strict=True)) for chosen in itertools.product(*choices)]


def _check_count(count: int) -> None:
    if count > _MAX_RUNS:
        raise UsageError(f"the sweep has {count} runs; at most {_MAX_RUNS} are allowed")


def _fields(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TrainConfig` from settings by flat name."""
    values: dict[str, Any] = {}
    for name, value in setting.items():
        word, _, option = name.partition(" ")
        if option:
            values.setdefault(TABLES[word], {})[option] = value
        else:
            values[name] = value
    return values


def _earlier(folder: Path) -> dict[str, str]:
    """Names of earlier runs in `folder`, finished or not, by identity."""
    names = (_NAME.match(file.name) for file in sorted(folder.iterdir())) if folder.is_dir() else ()
    return {name["identity"]: name["name"] for name in names if name}


def _identity(config: TrainConfig) -> str:
    """Eight hexadecimal digits: a hash of the settings, and of size and time of the input files."""
    stamps, out = [], config.out.resolve()
    # An option may name a folder too, such as that of a mask.
    for path in (config.model, config.data, config.teacher, *config.options.values()):
        # os.path returns False, where pathlib raises, for a hub id that cannot be a path.
        if isinstance(path, (str, Path)) and os.path.isdir(path):  # noqa: PTH112
            files = [file for file in sorted(Path(path).rglob("*")) if file.is_file()]
            # Files that the sweep writes are not its inputs.
            if out == Path(path).resolve():
                raise UsageError(
                    f"--out {config.out} is also an input of this sweep; choose another directory"
                )
            if out.is_relative_to(Path(path).resolve()):
                files = [file for file in files if not file.resolve().is_relative_to(out)]
            stamps += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    known = json.dumps([__version__, config.settings(), stamps], sort_keys=True, default=str)
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def _text(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
