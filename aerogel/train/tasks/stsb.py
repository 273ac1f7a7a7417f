"""STS-B (Semantic Textual Similarity Benchmark, GLUE): how alike are two sentences, from 0 to 5?"""

from aerogel.train.hub import HubTable
from aerogel.train.metrics import correlations
from aerogel.train.table import TableTask

TASK = TableTask(
    texts=("sentence1", "sentence2"),
    label="score",
    labels=None,
    metrics=correlations,
    hub=HubTable(("sentence1", "sentence2"), "stsb"),
    value_range=(0.0, 5.0),
)
