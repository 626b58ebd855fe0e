"""A fake device for the faults that the real adbd cannot give: refused keys, cut cables, slow links, full storage.

It runs on this machine itself, without namespaces; ``Options`` say how, ``Faults`` what goes wrong:

    with open_adbd(Options(authorisation="ask")) as adbd, open_adb_server() as server:
        server.connect(adbd.serial)
        adbd.allow_key()
"""

from tests.virtual_phone.adbd.options import Options
from tests.virtual_phone.adbd.server import FakeAdbd, open_adbd
from tests.virtual_phone.adbd.transport import Faults

__all__ = ["FakeAdbd", "Faults", "Options", "open_adbd"]
