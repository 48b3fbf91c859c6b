"""The page of keys, rendered from the table that the store's own keys are checked against.

``python -m tests.architecture.write_keys`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from workflow_worker.store.redis.keys import keys_table, prefix_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "keys.md"
REWRITE = "python -m tests.architecture.write_keys"


def rendered() -> str:
    """The whole page as it should be now."""
    return f"""# Keys in Redis

All keys of partition *p* of a namespace begin with `<ns>:{{<ns>:<p>}}:`, so that they share one hash slot; with the
default settings that is `{prefix_of("ww")}`. Only `events` is for others to write to (a plain `XADD`); the rest is the
scripts' own, may change with a release, and is best read through `workflow-worker` or the HTTP API. "Packed" is
[MessagePack](https://msgpack.org/). Nothing has an EXPIRE: what ends, a transition deletes.

<!-- Written by `{REWRITE}`, checked by a test. -->

{keys_table()}"""


if __name__ == "__main__":
    PAGE.write_text(rendered())
