"""Bulk jobs: run a model on the rows of files, in flat memory, and resume after a kill."""
