"""Training and pruning: methods, the training loop and the run that writes a checkpoint. Needs the extra `train`."""

from aerogel.system.cores import set_thread_variables

# Torch reads these variables once, on import, so they are set before any module here imports it.
set_thread_variables()
