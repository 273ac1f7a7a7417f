from __future__ import annotations

from aerogel.bench.setup import alternate, iterations_per_round


class Recorder:
    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self.name, self.log = name, log

    def run(self, iterations: int) -> tuple[list[float], float]:
        self.log.append((self.name, iterations))
        return [float(len(self.log))] * iterations, 1.0


def test_rounds_alternate_forwards_and_backwards() -> None:
    log: list[tuple[str, int]] = []
    steps: list[tuple[str, int, int]] = []
    timed = alternate([Recorder(name, log) for name in "ABC"], 3, 5, lambda *step: steps.append(step))
    assert "".join(name for name, _ in log) == "ABCCBAABC"
    assert {iterations for _, iterations in log} == {5}
    # Each fake's time is the number of its call, which shows whether times belong to the right worker.
    assert [[times[0] for times, _ in rounds] for rounds in timed] == [[1, 6, 7], [2, 5, 8], [3, 4, 9]]
    assert steps == [("measuring", n, 3) for n in (1, 2, 3)]


def test_iterations_fill_half_a_second_of_the_slowest() -> None:
    class Fixed:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def run(self, iterations: int) -> tuple[list[float], float]:
            return [self.seconds] * iterations, 1.0

    assert iterations_per_round([Fixed(0.01), Fixed(0.1)]) == 5
    assert iterations_per_round([Fixed(10.0)]) == 3
    assert iterations_per_round([Fixed(1e-6)]) == 200
