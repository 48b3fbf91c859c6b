"""How answers are written: JSON, and refusals as ``{"error": …}``."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Response


def json_answer(content: Any, status: int = 200) -> Response:
    """A document as it is."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def refusal(status: int, message: str) -> Response:
    """Why not; quotes nothing secret."""
    return json_answer({"error": message}, status)
