"""Layouts: where the files of a verified artifact go. One module each; see `aerogel.export.layout`."""
