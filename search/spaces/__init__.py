"""Search spaces: SPACES, name -> module with ``SPACE``; or a TOML file that describes one (``toml.py``)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from ops_catalog.spec import SpecError
from search.spaces.space import SearchSpace
from search.spaces.toml import load_space

SPACES = {
    "chamnet-mobile": "search.spaces.chamnet_mobile",
    "chamnet-res": "search.spaces.chamnet_res",
    "ofa-mobile": "search.spaces.ofa_mobile",
    "mbconv": "search.spaces.mbconv",
    "macro": "search.spaces.macro",
}


def space_named(name: str) -> SearchSpace:
    """A space by its name, or that of a file ending in ``.toml``. Raises SpecError."""
    if name.endswith(".toml"):
        return load_space(Path(name))
    if name not in SPACES:
        raise SpecError(f"a search space must be one of {', '.join(SPACES)}, or a .toml file, but got {name!r}")
    return cast(SearchSpace, import_module(SPACES[name]).SPACE)
