"""Named entities in column files, as in CoNLL-2003: persons, locations, organisations."""

from aerogel.data.hub import Hub
from aerogel.data.tagging.task import TaggingTask

TASK = TaggingTask(
    entities=True, hub=Hub("lhoestq/conll2003", evaluation=(("", "validation"), ("test", "test")))
)
