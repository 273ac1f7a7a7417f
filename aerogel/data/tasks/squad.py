"""SQuAD 1.1 (Stanford Question Answering Dataset): which span of a paragraph answers a question?"""

from aerogel.data.hub import Hub
from aerogel.data.qa.task import QuestionTask

TASK = QuestionTask(train="train-v1.1.json", dev="dev-v1.1.json", hub=Hub("rajpurkar/squad"))
