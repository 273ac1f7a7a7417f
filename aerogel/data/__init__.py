"""Tasks: their data, and the metrics that judge a model on it. Training learns from them, export verifies on them."""
