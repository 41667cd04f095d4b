"""The class that our callbacks are of: Lightning's, under whichever name it is in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

__all__ = ["Callback"]

if TYPE_CHECKING or not {"lightning.pytorch", "pytorch_lightning"} & set(sys.modules):
    from lightning.pytorch import Callback
else:  # a Callback of every copy of Lightning in use; loading the other copy would cost seconds
    _copies = [sys.modules[name] for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    Callback = type("Callback", tuple(copy.Callback for copy in _copies), {})
