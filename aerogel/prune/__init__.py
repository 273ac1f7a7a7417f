"""Pruning without training: weights are chosen and corrected layer by layer. Needs the extra `train`."""

from aerogel.system.cores import set_thread_variables

# Torch reads these variables once, on import, so they are set before any module here imports it.
set_thread_variables()
