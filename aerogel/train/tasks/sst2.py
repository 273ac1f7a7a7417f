"""SST-2 (Stanford Sentiment Treebank, GLUE): is a phrase from a film review positive?"""

from aerogel.train.hub import HubTable
from aerogel.train.metrics import accuracy
from aerogel.train.table import TableTask

TASK = TableTask(
    texts=("sentence",),
    label="label",
    labels=("0", "1"),
    metrics=accuracy,
    hub=HubTable(("sentence",), "sst2"),
)
