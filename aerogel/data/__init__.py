"""Tasks: labelled data and metrics. Training learns from them; export verifies on them."""
