"""What the client library raises, as errors of ours: no usable answer, or a script that failed on what it found."""

from __future__ import annotations

from redis.exceptions import OutOfMemoryError, ReadOnlyError

from workflow_worker.model.exceptions import ConfigurationError, Refused, StoreUnavailable
from workflow_worker.store.redis.connection import unavailable


def translate(error: BaseException) -> StoreUnavailable | ConfigurationError | Refused:
    """`Refused` when the script itself failed; everything else as `unavailable` says."""
    return unavailable(error) or Refused(f"a script failed on what it found: {error}")


def refuses_writes(error: BaseException) -> bool:
    """Whether the server answers but takes no writes at present."""
    return isinstance(error, ReadOnlyError | OutOfMemoryError) or str(error).startswith(
        ("READONLY", "OOM", "NOREPLICAS", "MISCONF")
    )
