"""Any tags in a column of a column file, such as parts of speech; judged word by word."""

from aerogel.data.tagging.task import TaggingTask

TASK = TaggingTask(entities=False)
