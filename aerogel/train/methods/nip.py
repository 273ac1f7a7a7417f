"""New Iterative Pruning: the baseline of the reweighted-proximal-pruning paper (Guo et al. 2019, section 4).

Gradual magnitude pruning on the cubic schedule without a penalty, in pre-training; the mask is then fixed for all
downstream tasks. The class is that of `magnitude`. The separate name lets records of a comparison with `rpp` use the
name in the paper.
"""

from __future__ import annotations

from aerogel.train.methods.magnitude import Magnitude

__all__ = ["METHOD"]

METHOD = Magnitude
