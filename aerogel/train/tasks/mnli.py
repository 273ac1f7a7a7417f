"""MNLI (Multi-Genre Natural Language Inference, GLUE), evaluated on matched and mismatched genres."""

from aerogel.train.hub import HubTable
from aerogel.train.metrics import accuracy
from aerogel.train.table import TableTask

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
