"""Serve exported models over HTTP: one scheduler of tokens, and the routes of the public embedding servers."""
