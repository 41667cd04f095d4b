"""The class that our callbacks are of: a Callback of every copy of Lightning in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or not {"lightning.pytorch", "pytorch_lightning"} & set(sys.modules):
    from lightning.pytorch import Callback
else:  # loading the other copy would cost seconds
    _copies = [sys.modules[name] for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    Callback = type("Callback", tuple(copy.Callback for copy in _copies), {})

__all__ = ["Callback"]
