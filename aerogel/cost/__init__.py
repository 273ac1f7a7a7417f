"""Cost model of this machine: measured once by `aerogel calibrate`, then used to predict the speed of a model.

`calibrate`, `grid` and `non_gemm` measure; `cache` keeps the result on disk; `model` and `predict` compute times from
it for `aerogel export` and `aerogel inspect`. Nothing is measured unless the user runs `aerogel calibrate`.
"""
