"""What a failed command means for us: come back later, the operator must act, or the script failed on what it found."""

from __future__ import annotations

import asyncio
import ssl

from workflow_worker.model.exceptions import ConfigurationError, Refused, StoreUnavailable
from workflow_worker.model.settings import without_password
from workflow_worker.store.redis import errors
from workflow_worker.store.redis.replies import word_of

_REFUSALS = {
    "LOADING": "the server is loading its data",
    "READONLY": "the server is a read-only replica",
    "MASTERDOWN": "the server is a replica that lost its primary",
    "NOREPLICAS": "the server has fewer replicas than it needs to accept writes (min-replicas-to-write)",
    "OOM": "the server is out of memory (maxmemory)",
    "BUSY": "the server is busy with a script",
    "MISCONF": "the server cannot save to its disk and refuses writes",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the cluster is moving these keys",
    "UNBLOCKED": "the server ended the blocking read",
    "NOGOODSLAVE": "the sentinels have no replica to promote",
}
_DENIALS = {
    "NOAUTH": "the server wants a password, and REDIS_URL has none",
    "WRONGPASS": "the server refuses the user or password of REDIS_URL",
    "NOPERM": "the user of REDIS_URL may not run a command that is needed",
    "DENIED": "the server is in protected mode and takes connections from its own machine only",
    "MOVED": "the server is one node of a cluster and has not all keys; Redis Cluster is not supported yet",
    "ASK": "the server is one node of a cluster and has not all keys; Redis Cluster is not supported yet",
    "CROSSSLOT": "the server is one node of a cluster and has not all keys; Redis Cluster is not supported yet",
}
_SENTENCES: dict[str, tuple[type[StoreUnavailable | ConfigurationError], str]] = {
    "ERR max number of clients": (StoreUnavailable, "the server takes no more connections (maxclients)"),
    "ERR DB index is out of range": (ConfigurationError, "the server has no database of the number in REDIS_URL"),
    "ERR SELECT is not allowed": (ConfigurationError, "REDIS_URL names a database, and a cluster has only number 0"),
}
_NO_WRITES = frozenset({"READONLY", "OOM", "NOREPLICAS", "MISCONF"})


def translate(error: BaseException) -> StoreUnavailable | ConfigurationError | Refused:
    """`Refused` when the script itself failed; everything else as `unavailable` says."""
    return unavailable(error) or Refused(f"a script failed on what it found: {error}")


def translate_at_work(error: BaseException) -> StoreUnavailable | Refused:
    """As `translate`, for a connection whose address and login have worked before: what the server denies now (its
    password was changed, another server stands in for it) is an outage that the operator can mend there, not a reason
    for every worker to end."""
    ours = translate(error)
    return StoreUnavailable(str(ours)) if isinstance(ours, ConfigurationError) else ours


def refuses_writes(error: BaseException) -> bool:
    """Whether the server answers but takes no writes at present."""
    return _word(error) in _NO_WRITES


def unavailable(error: BaseException) -> StoreUnavailable | ConfigurationError | None:
    """What an error of a command means for us, as an exception to raise from it.

    Returns:
        `StoreUnavailable` where repeating later can help, `ConfigurationError` where the operator must act first, None
        where the error says that the command itself is wrong. No text holds a secret or a payload.
    """
    word = _word(error)
    if word in _DENIALS:
        return ConfigurationError(f"{_DENIALS[word]} ({word})")
    if word in _REFUSALS:
        return StoreUnavailable(f"{_REFUSALS[word]} ({word})")
    for beginning, (kind, meaning) in _SENTENCES.items():
        if beginning in str(error):
            return kind(meaning)
    if isinstance(error, errors.AuthenticationError):
        return ConfigurationError(
            "the server refuses the user or password of REDIS_URL, or wants one that is not there"
        )
    return _of_the_connection(error)


def _of_the_connection(error: BaseException) -> StoreUnavailable | ConfigurationError | None:
    if isinstance(error, errors.Misconfigured):
        return ConfigurationError(str(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"the server's certificate is not trusted: {error.verify_message}; ssl_ca_certs=… in REDIS_URL names those"
            " that are"
        )
    if isinstance(error, errors.NoAnswer | TimeoutError):
        return StoreUnavailable("the server did not answer in time")
    if isinstance(error, errors.ConnectionFailed | asyncio.IncompleteReadError | OSError):
        refused = isinstance(error, ConnectionRefusedError | FileNotFoundError)
        detail = without_password(str(error))[:300].rstrip(". ") or type(error).__name__
        return StoreUnavailable(f"{'connection refused' if refused else 'the connection failed'}: {detail}")
    return None


def _word(error: BaseException) -> str:
    return word_of(str(error)) if isinstance(error, errors.RedisError) else ""
