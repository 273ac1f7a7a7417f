"""Kinds of models that can be exported, found by file name; see `aerogel.export.source`."""
