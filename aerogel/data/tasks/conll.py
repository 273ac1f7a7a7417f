"""Tags from any column of a column file, such as parts of speech. Metric: accuracy over words."""

from aerogel.data.tagging.task import TaggingTask

TASK = TaggingTask(entities=False)
