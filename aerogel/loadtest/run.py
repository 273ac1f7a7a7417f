"""Run a load test: one rate, several, or a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.loadtest.generator import MAX_CONNECTIONS, generate, probe
from aerogel.loadtest.measure import Point, summarize
from aerogel.loadtest.route import Route
from aerogel.loadtest.schedule import arrivals
from aerogel.loadtest.search import find_rate
from aerogel.loadtest.target import Target
from aerogel.loadtest.texts import Lengths, texts_from_file, texts_from_lengths
from aerogel.system.printable import escaped
from aerogel.system.seeds import check_seed

__all__ = ["LoadConfig", "Result", "run_load"]

# Most requests of one measurement, which are in memory.
_MOST = 2_000_000


@dataclass(frozen=True)
class LoadConfig:
    """A load test.

    Attributes:
        url: the server, such as http://localhost:8080.
        route: what is sent.
        model: name of the model in bodies that have one.
        rates: rates to measure, requests per second. In a search, the first one is the start.
        bound: search the highest rate with a p99 of at most this many milliseconds; None for no search.
        precision: relative width of the search's final interval.
        seconds: length of each measurement, without the warm-up.
        warmup: seconds of load before it.
        texts: file with a text per line; None for `lengths`.
        lengths: distribution of lengths.
        seed: seed of arrivals and texts.
        connections: keep-alive connections.
        timeout: seconds after which a request failed.
        headers: further HTTP headers.
    """

    url: str
    route: Route
    model: str = ""
    rates: Sequence[float] = (10.0,)
    bound: float | None = None
    precision: float = 0.05
    seconds: float = 20.0
    warmup: float = 3.0
    texts: Path | None = None
    lengths: Lengths = field(default_factory=Lengths)
    seed: int = 0
    connections: int = 64
    timeout: float = 10.0
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, value, low, high in (
            *(("--rate", rate, 0.1, 1e6) for rate in self.rates),
            ("--seconds", self.seconds, 0.1, 86400),
            ("--warmup", self.warmup, 0, 3600),
            ("--connections", self.connections, 1, MAX_CONNECTIONS),
            ("--timeout", self.timeout, 0.1, 3600),
            ("--precision", self.precision, 0.001, 1),
            *((("--p99", self.bound, 0.001, 1e6),) if self.bound is not None else ()),
        ):
            if not low <= value <= high:  # NaN too
                raise UsageError(f"{name} {value}: must be from {low} to {high:g}")


@dataclass(frozen=True)
class Result:
    """Measurements of a load test.

    Attributes:
        points: all of them, in order.
        found: the repeated measurement of the highest rate that holds the bound; None if no rate does.
    """

    points: list[Point]
    found: Point | None


def run_load(config: LoadConfig, report: Callable[[Point], None] = lambda _: None) -> Result:
    """Measure.

    Args:
        config: the test.
        report: called after each measurement.

    Raises:
        UsageError: the server cannot be reached or refuses the first request; the message has its answer.
        DataError: the file of texts cannot be read.
    """
    target = Target.parse(config.url, config.route.path, config.headers)
    _check_server(config, target)
    points: list[Point] = []

    def measure(rate: float) -> Point:
        length = config.warmup + config.seconds
        if rate * length > _MOST:
            raise UsageError(
                f"--rate {rate:g}: more than {_MOST:,} requests in one measurement; lower --seconds"
            )
        # Another seed for each measurement, so that the search does not fit one schedule.
        seed = (config.seed + len(points)) % 2**32
        due = arrivals(rate, length, seed)
        load = generate(
            target,
            due,
            target.requests(_bodies(config, len(due), seed)),
            connections=config.connections,
            timeout=config.timeout,
        )
        points.append(summarize(load, rate, config.warmup, length))
        report(points[-1])
        return points[-1]

    found = None
    if config.bound is None:
        for rate in config.rates:
            measure(rate)
    else:
        found = find_rate(measure, config.bound, config.rates[0], config.precision)
    return Result(points, found)


def _bodies(config: LoadConfig, count: int, seed: int) -> list[bytes]:
    if config.texts is not None:
        texts = texts_from_file(config.texts, count, seed)
    else:
        texts = texts_from_lengths(config.lengths, count, seed)
    return [config.route.encode(text, config.model) for text in texts]


def _check_server(config: LoadConfig, target: Target) -> None:
    """Send one request.

    Raises:
        UsageError: its status is not 200.
    """
    (request,) = target.requests(_bodies(config, 1, config.seed))
    outcome, body = probe(target, request, config.timeout)
    if outcome != "200":
        said = escaped(" ".join(body.decode(errors="replace").split()))[:200]
        raise UsageError(
            f"{config.url}: the first request ended with {outcome}{f': {said}' if said else ''}; "
            "check --route, --model and the server"
        )
