"""QQP (Quora Question Pairs, GLUE): are two questions duplicates? The published files have a few broken rows."""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy_and_f1
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("question1", "question2"),
    label="is_duplicate",
    labels=("0", "1"),
    metrics=accuracy_and_f1,
    hub=HubTable(("question1", "question2"), "qqp", classes=("not_duplicate", "duplicate")),
    skip_ragged=True,
)
