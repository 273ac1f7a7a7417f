"""Training with pruning: tasks, methods, the loop, and the checkpoint at its end. Needs the extra `train`."""

from aerogel.system.cores import set_thread_variables

# Before torch, which every module below imports: it reads them only once.
set_thread_variables()
