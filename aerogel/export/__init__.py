"""From a masked checkpoint to an artifact that runs: capture, choose, rewrite, write, verify."""
