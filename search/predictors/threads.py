"""One thread for the linear algebra of a predictor.

Its matrices are small: a second thread saves little on an idle machine, and where the processors are busy the two wait
for each other many times longer than they compute.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """While it is open, NumPy's and SciPy's BLAS use one thread."""
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which the controller has to find)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
