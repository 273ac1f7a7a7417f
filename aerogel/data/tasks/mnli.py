"""MNLI (Multi-Genre Natural Language Inference, GLUE), evaluated on matched and mismatched genres."""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("sentence1", "sentence2"),
    label="gold_label",
    labels=("entailment", "neutral", "contradiction"),
    metrics=accuracy,
    hub=HubTable(
        ("premise", "hypothesis"),
        "mnli",
        evaluation=(("matched", "validation_matched"), ("mismatched", "validation_mismatched")),
    ),
    evaluation=(("matched", "dev_matched.tsv"), ("mismatched", "dev_mismatched.tsv")),
)
