"""QNLI (SQuAD as sentence pairs, GLUE): does the sentence contain the answer to the question?"""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("question", "sentence"),
    label="label",
    labels=("entailment", "not_entailment"),
    metrics=accuracy,
    hub=HubTable(("question", "sentence"), "qnli"),
)
