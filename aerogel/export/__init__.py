"""From a model to an artifact that runs: read, plan, rewrite, fuse, write, verify."""

from aerogel.system.cores import set_thread_variables

# Before torch, which several modules below import: it reads them only once.
set_thread_variables()
