"""Run pruned models in plain PyTorch, on the CPU kernels or on a GPU.

    model = aerogel.torch.sparsify("checkpoint")  # or a live model with exact zeros
    print(aerogel.torch.report(model))

In this package ``torch`` always means PyTorch; the modules import one another by their full names.
"""

from aerogel.errors import require

require("torch", "export")

from aerogel.torch.conversion import densify, sparsify  # noqa: E402 - says what is missing first
from aerogel.torch.linear import SparseLinear  # noqa: E402 - says what is missing first
from aerogel.torch.shrink import ShrinkReport, shrink  # noqa: E402 - says what is missing first
from aerogel.torch.summary import LayerSummary, Summary, report  # noqa: E402 - says what is missing first

__all__ = [
    "LayerSummary",
    "ShrinkReport",
    "SparseLinear",
    "Summary",
    "densify",
    "report",
    "shrink",
    "sparsify",
]
