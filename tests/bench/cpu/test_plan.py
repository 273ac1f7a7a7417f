from __future__ import annotations

from statistics import median

import pytest

from aerogel.bench.backends import BACKENDS
from aerogel.bench.cpu.plan import DENSITIES, Point, mixed_lengths, points
from aerogel.bench.cpu.targets import load
from aerogel.bench.result import STOCK

ALL = points()


def named(name: str) -> Point:
    return next(point for point in ALL if point.name == name)


@pytest.mark.parametrize("point", [*ALL, *points(quick=True)], ids=lambda point: point.name)
def test_every_point_has_a_dense_baseline_and_known_candidates(point: Point) -> None:
    first = point.rows[0]
    assert (first.candidate, first.export.format) == (STOCK, "dense")
    assert {row.candidate for row in point.rows} <= set(BACKENDS.names())
    assert len(set(point.rows)) == len(point.rows)
    for row in point.rows:
        ours = row.candidate == "aerogel"
        assert ours == (row.export.format != "dense")
        assert row.reference.checkpoint == row.export.checkpoint


def test_names_are_unique() -> None:
    assert len({point.name for point in ALL}) == len(ALL)


def test_every_shape_asked_for_is_measured() -> None:
    shapes = {(point.settings.threads, point.settings.batch, point.settings.seq) for point in ALL}
    assert {
        (1, 1, 128),
        (2, 1, 128),
        (1, 8, 128),
        (1, 32, 128),
        (1, 1, 16),
        (1, 1, 64),
        (1, 1, 384),
    } <= shapes
    assert [p.settings.lengths for p in ALL if p.settings.lengths] == [mixed_lengths(32)]
    percents = {int(point.name[8:]) for point in ALL if point.name.startswith("density-")}
    assert percents == set(DENSITIES)


def test_every_target_names_rows_that_are_measured() -> None:
    for entry in load():
        for name in entry["points"]:
            for words, where in [(entry["row"], name)] + [
                (other, entry.get("other_point", name)) for other in entry["against"]
            ]:
                label, candidate, kind = words
                rows = [
                    row
                    for row in named(where).rows
                    if (row.export.checkpoint.label, row.candidate) == (label, candidate)
                ]
                assert rows, f"{where} measures no {label} on {candidate}"
                if candidate == "aerogel":
                    assert kind.removeprefix("sparse ") in {row.export.weights for row in rows}


def test_the_mixed_batch_has_a_tail_as_sentences_do() -> None:
    lengths = mixed_lengths(32)
    assert len(lengths) == 32
    assert (min(lengths), max(lengths)) == (6, 128)
    assert median(lengths) == pytest.approx(24, abs=1)
    assert 0.7 < 1 - sum(lengths) / (32 * 128) < 0.8


def test_quick_is_small() -> None:
    quick = points(quick=True, large="bert-tiny")
    assert len(quick) < 6
    assert {row.export.checkpoint.arch for point in quick for row in point.rows} == {"bert-tiny"}
    assert all(point.settings.rounds == 2 for point in quick)
    assert all(point.settings.rounds == 5 for point in points(rounds=5))
