"""Predicted speed of the checkpoint, exported with default settings."""

from __future__ import annotations

from aerogel.checkpoint import read_config
from aerogel.cost import cache, report
from aerogel.cost.predict import WORKLOAD
from aerogel.export.plan import DENSE, make_plan
from aerogel.export.prediction import EncoderForm, predicted
from aerogel.inspect.section import Finding, Section, Table
from aerogel.inspect.subject import Subject

__all__ = ["SECTION"]


class _Speed(Section):
    title = "Speed"
    order = 55

    def analyse(self, subject: Subject) -> Finding:
        calibration = cache.find(WORKLOAD.threads)
        if isinstance(calibration, str):
            note = f"speed not predicted: {calibration}"
            return Finding({"reason": calibration}, notes=[note], summary=[note])
        made = subject.checkpoint
        plan = make_plan(made, calibration=calibration)
        packed = any(choice.format != DENSE for choice in plan.values())
        found = predicted(calibration, plan, made.path, EncoderForm(packed, packed and _classifies(subject)))
        rows = []
        for part in subject.parts:
            names = [matrix.name for matrix in subject.of(part)]
            stored = [plan[name].stored / plan[name].weight.size for name in names]
            kinds = sorted({plan[name].format for name in names})
            times = report.ranges([found["matrices"][name] for name in names])
            rows.append([part, ", ".join(kinds), report.spread(stored, "{:.1%}"), *times])
        header = ("part", "format", "stored", "packed, us", "dense, us", "break-even, stored")
        notes = [
            "Storage as `aerogel export` would choose it in fp32; times from the cost model of this machine, in "
            "microseconds for each layer as a separate node. In the fused encoder, activations are not reordered for "
            "each layer."
        ]
        summary = report.verdict(found).splitlines()
        return Finding(
            found, [Table(f"Predicted for {report.workload(found)}", header, rows, 2)], notes, summary
        )


def _classifies(subject: Subject) -> bool:
    """Whether the head reads only the first token, so that the last layer computes no other token."""
    config = read_config(subject.checkpoint.path)
    return str(config.get("architectures")).endswith("ForSequenceClassification']")


SECTION = _Speed()
