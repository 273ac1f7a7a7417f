"""CoLA (Corpus of Linguistic Acceptability, GLUE): is a sentence grammatical? Metric: Matthews correlation."""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import matthews
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("sentence",),
    label="label",
    labels=("0", "1"),
    metrics=matthews,
    hub=HubTable(("sentence",), "cola", classes=("unacceptable", "acceptable")),
    header=("source", "label", "mark", "sentence"),
)
