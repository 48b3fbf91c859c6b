"""structlog, imported without rich.

structlog imports rich when it finds it, for tracebacks that we do not use: 4.5 MB and 25 ms in each worker process
(measured with structlog 26.1). So rich is hidden while structlog is imported, unless somebody has imported it already.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

_HIDDEN = "rich" not in sys.modules
if _HIDDEN:
    sys.modules["rich"] = cast("ModuleType", None)  # the import system's own way to say: there is none
try:
    import structlog as structlog
finally:
    if _HIDDEN:
        del sys.modules["rich"]
