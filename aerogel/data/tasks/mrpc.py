"""MRPC (Microsoft Research Paraphrase Corpus, GLUE): do two sentences mean the same?"""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy_and_f1
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("#1 String", "#2 String"),
    label="Quality",
    labels=("0", "1"),
    metrics=accuracy_and_f1,
    hub=HubTable(("sentence1", "sentence2"), "mrpc", classes=("not_equivalent", "equivalent")),
)
