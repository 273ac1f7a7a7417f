"""Routes, one module a family: ``ROUTES`` is a list of `aerogel.serve.endpoint.Endpoint`."""
