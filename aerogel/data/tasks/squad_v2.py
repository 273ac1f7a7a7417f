"""SQuAD 2.0: like version 1.1, but half of the evaluation questions have no answer in their paragraph."""

from aerogel.data.hub import Hub
from aerogel.data.qa.task import QuestionTask

TASK = QuestionTask(
    train="train-v2.0.json", dev="dev-v2.0.json", hub=Hub("rajpurkar/squad_v2"), unanswerable=True
)
