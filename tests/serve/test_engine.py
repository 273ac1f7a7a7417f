"""Scheduler, engine and model together: answers are those of `aerogel.load`, to the bit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.model import Model
from aerogel.serve.engine import Engine, Layout
from aerogel.serve.scheduler import Scheduler
from aerogel.serve.tuning import candidates, choose, measure_batches

Make = Callable[..., Path]
WORDS = ["the", "film", "was", "good", "and", "bad", "it", "is", "not", "very"]


def _texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.choice([0, 1, 2, 3, 5, 9, 17, 40]))) for _ in range(count)]


def _serve(model: Model, layout: Layout, method: str, requests: list[list[str]]) -> list[Any]:
    async def body() -> list[Any]:
        engine = Engine(model, layout)
        scheduler = Scheduler(engine, queue_tokens=10**6)
        jobs = []
        for number, texts in enumerate(requests):
            jobs.append(scheduler.submit(model.prepare(method, texts)))
            if number % 3 == 0:
                await asyncio.sleep(0)
        found = [await job.future for job in jobs]
        await scheduler.close()
        engine.close()
        return found

    return asyncio.run(asyncio.wait_for(body(), 60))


@pytest.mark.parametrize("layout", [(1, 1, 64), (2, 1, 200), (1, 2, 64), (2, 2, 1000)], ids=str)
@pytest.mark.parametrize("kind", ["mean", "tokens", "classify", "tag"])
def test_answers_equal_those_of_load(
    exported: Make, exported_embedder: Make, kind: str, layout: tuple[int, int, int]
) -> None:
    folder, method = {
        "mean": lambda: (exported_embedder("mean"), "embed"),
        "tokens": lambda: (exported(), "embed"),
        "classify": lambda: (exported("SequenceClassification", num_labels=3), "classify"),
        "tag": lambda: (exported("TokenClassification", num_labels=5), "tag"),
    }[kind]()
    workers, threads, tokens = layout
    requests = [_texts(seed, count) for seed, count in enumerate([1, 1, 7, 30, 1, 2, 1, 12, 3])]
    found = _serve(
        aerogel.load(folder, threads=threads), Layout(workers, threads, tokens, 1e4), method, requests
    )
    offline = aerogel.load(folder, threads=1)
    for texts, answers in zip(requests, found, strict=True):
        expected = getattr(offline, method)(texts)
        for text, answer, each in zip(texts, answers, expected, strict=True):
            same = np.array_equal(answer, each) if method == "embed" else answer == each
            assert same, text


def test_a_model_with_fixed_sizes_is_served(exported: Make) -> None:
    model = aerogel.load(exported(), threads=1)
    engine = Engine(model, Layout(1, 1, 10**9, 1e4))
    assert engine.batch_tokens == model.max_batch_tokens < 10**9
    engine.close()


def test_measuring_finds_a_batch_and_a_layout(exported_embedder: Make) -> None:
    folder = exported_embedder("mean")
    model = aerogel.load(folder, threads=1)
    tokens, rate = measure_batches(model, 0.0)
    assert tokens == 128
    assert rate > 0
    loaded: list[int] = []

    def load(threads: int) -> Model:
        loaded.append(threads)
        return aerogel.load(folder, threads=threads)

    chosen, layout = choose(load, [(2, 1), (1, 2)], batch_tokens=50, batch_seconds=1)
    assert loaded == [1, 2]
    assert (layout.workers, layout.threads) in [(2, 1), (1, 2)]
    assert (chosen.threads, layout.batch_tokens) == (layout.threads, 50)
    assert len(chosen.embed(["one"])) == 1


def test_all_cores_are_used() -> None:
    assert candidates(1) == [(1, 1)]
    assert candidates(4) == [(4, 1), (2, 2), (1, 4)]
    assert candidates(6) == [(6, 1), (3, 2)]
