"""Search spaces: SPACES, name -> module with ``SPACE``; or a TOML file that describes one (``toml.py``).

NAME@bBATCH, such as chamnet-res@b32, is the same for so many images at once: its operators, its calibrations and its
costs are of that batch, its genomes and their accuracies those of the plain space.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from ops_catalog.build import split_batch
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
    """A space by its name, or that of a file ending in ``.toml``; both also with ``@bBATCH``. Raises SpecError."""
    plain, batch = split_batch(name)
    return _plain_space(plain).with_batch(batch)


def _plain_space(name: str) -> SearchSpace:
    if name.endswith(".toml"):
        space = load_space(Path(name))
        if split_batch(space.name) != (space.name, 1):
            raise SpecError(f"{name}: a space must have a name without @bBATCH of its own, but got {space.name!r}")
        return space
    if name not in SPACES:
        listed = ", ".join(SPACES)
        raise SpecError(
            f"a search space must be one of {listed}, or a .toml file, but got {name!r}; each may end in @bBATCH"
        )
    return cast(SearchSpace, import_module(SPACES[name]).SPACE)
