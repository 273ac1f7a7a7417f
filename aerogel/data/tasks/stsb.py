"""STS-B (Semantic Textual Similarity Benchmark, GLUE): how similar are two sentences, from 0 to 5?"""

from aerogel.data.hub import HubTable
from aerogel.data.metrics import correlations
from aerogel.data.table import TableTask

TASK = TableTask(
    texts=("sentence1", "sentence2"),
    label="score",
    labels=None,
    metrics=correlations,
    hub=HubTable(("sentence1", "sentence2"), "stsb"),
    value_range=(0.0, 5.0),
)
