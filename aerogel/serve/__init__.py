"""Serve exported models over HTTP."""
