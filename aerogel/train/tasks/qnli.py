"""QNLI (SQuAD as sentence pairs, GLUE): does the sentence hold the answer to the question?"""

from aerogel.train.hub import HubTable
from aerogel.train.metrics import accuracy
from aerogel.train.table import TableTask

TASK = TableTask(
    texts=("question", "sentence"),
    label="label",
    labels=("entailment", "not_entailment"),
    metrics=accuracy,
    hub=HubTable(("question", "sentence"), "qnli"),
)
