"""Load tests of HTTP servers: an open loop, whose requests arrive when they are due and not when the server is free."""
