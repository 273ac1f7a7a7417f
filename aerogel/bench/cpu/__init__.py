"""The CPU benchmark: ``python -m aerogel.bench.cpu --out DIR`` (``make bench-cpu``).

It makes synthetic models at several densities and blocks with `synth` and `export`, and measures them on every
installed backend in the configurations of `plan`. Results of each configuration are saved at once, so that an
interrupted run can be resumed.
"""
