from __future__ import annotations

from statistics import median

import pytest

from aerogel.bench.backends import BACKENDS
from aerogel.bench.cpu.plan import DENSITIES, Configuration, configurations, mixed_lengths
from aerogel.bench.cpu.targets import load
from aerogel.bench.result import STOCK

ALL = configurations()


def named(name: str) -> Configuration:
    return next(configuration for configuration in ALL if configuration.name == name)


@pytest.mark.parametrize(
    "configuration", [*ALL, *configurations(quick=True)], ids=lambda configuration: configuration.name
)
def test_every_configuration_has_a_dense_baseline_and_known_backends(configuration: Configuration) -> None:
    first = configuration.rows[0]
    assert (first.backend, first.export.format) == (STOCK, "dense")
    assert {row.backend for row in configuration.rows} <= set(BACKENDS.names())
    assert len(set(configuration.rows)) == len(configuration.rows)
    for row in configuration.rows:
        sparse = row.backend == "aerogel"
        assert sparse == (row.export.format != "dense")
        assert row.reference.checkpoint == row.export.checkpoint


def test_names_are_unique() -> None:
    assert len({configuration.name for configuration in ALL}) == len(ALL)


def test_all_shapes_are_measured() -> None:
    shapes = {
        (configuration.settings.threads, configuration.settings.batch, configuration.settings.seq)
        for configuration in ALL
    }
    assert {
        (1, 1, 128),
        (2, 1, 128),
        (1, 8, 128),
        (1, 32, 128),
        (1, 1, 16),
        (1, 1, 64),
        (1, 1, 384),
    } <= shapes
    assert [item.settings.lengths for item in ALL if item.settings.lengths] == [mixed_lengths(32)]
    percents = {
        int(configuration.name[8:]) for configuration in ALL if configuration.name.startswith("density-")
    }
    assert percents == set(DENSITIES)


def test_every_target_names_rows_that_are_measured() -> None:
    for entry in load():
        for name in entry["configurations"]:
            for words, where in [(entry["row"], name)] + [
                (other, entry.get("against_configuration", name)) for other in entry["against"]
            ]:
                label, backend, precision = words
                rows = [
                    row
                    for row in named(where).rows
                    if (row.export.checkpoint.label, row.backend) == (label, backend)
                ]
                assert rows, f"{where} measures no {label} on {backend}"
                if backend == "aerogel":
                    assert precision.removeprefix("sparse ") in {row.export.weights for row in rows}


def test_the_mixed_batch_has_a_tail_as_sentences_do() -> None:
    lengths = mixed_lengths(32)
    assert len(lengths) == 32
    assert (min(lengths), max(lengths)) == (6, 128)
    assert median(lengths) == pytest.approx(24, abs=1)
    assert 0.7 < 1 - sum(lengths) / (32 * 128) < 0.8


def test_quick_is_small() -> None:
    quick = configurations(quick=True, large="bert-tiny")
    assert len(quick) < 6
    assert {row.export.checkpoint.arch for configuration in quick for row in configuration.rows} == {
        "bert-tiny"
    }
    assert all(configuration.settings.rounds == 2 for configuration in quick)
    assert all(configuration.settings.rounds == 5 for configuration in configurations(rounds=5))
