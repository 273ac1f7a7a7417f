from __future__ import annotations

import numpy as np

import aerogel
from aerogel.system.versions import versions


def test_versions_of_installed_and_missing_packages() -> None:
    assert versions(["numpy", "aerogel", "no-such-package"]) == {
        "numpy": np.__version__,
        "aerogel": aerogel.__version__,
        "no-such-package": None,
    }
