"""SST-2 (Stanford Sentiment Treebank, GLUE): is a phrase from a film review positive?"""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("sentence",),
    label="label",
    labels=("0", "1"),
    metrics=accuracy,
    hub=HubTable(("sentence",), "sst2", classes=("negative", "positive")),
)
