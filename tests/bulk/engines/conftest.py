from __future__ import annotations

from importlib.util import find_spec

# Ray is an extra of a few hundred megabytes; its test is collected where it is installed.
collect_ignore = [] if find_spec("ray") else ["test_ray.py"]
