"""RTE (Recognizing Textual Entailment, GLUE): does the first text entail the second?"""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("sentence1", "sentence2"),
    label="label",
    labels=("entailment", "not_entailment"),
    metrics=accuracy,
    hub=HubTable(("sentence1", "sentence2"), "rte"),
)
