"""The measurement of CPUs: ``python -m aerogel.bench.cpu --out DIR`` (``make bench-cpu``).

Synthetic models at several densities and blocks go through `synth` and `export`, and are measured against every runtime
that is installed, at the points that `plan` lists. Each point is kept as soon as it is measured, so that a run that was
stopped goes on where it was.
"""
