"""New Iterative Pruning: the baseline of the reweighted-proximal-pruning paper (Guo et al. 2019, section 4).

Gradual magnitude pruning on the cubic schedule with no regulariser, run while pre-training; its mask is then fixed
for all downstream tasks. The update is the one of `magnitude`, and this is the same class: what differs is where it
is run. It has a name of its own so that the records of a comparison with `rpp` say what the paper says.
"""

from __future__ import annotations

from aerogel.train.methods.magnitude import Magnitude

__all__ = ["METHOD"]

METHOD = Magnitude
