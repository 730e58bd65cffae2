"""Addresses of places on other machines, as they may be shown."""

from __future__ import annotations

import re
from typing import Final

# Up to the last at sign, because a password may contain one.
_USER: Final = re.compile(r"(?<=://)[^\s?]*@")
_SECRETS: Final = re.compile(r"(?i)\b(password|passwd|token|secret|key|sig)=[^&\s'\"]+")


def without_secrets(text: str) -> str:
    """Return a text without user and password in its addresses, and without secrets in their parameters."""
    return _SECRETS.sub(lambda match: f"{match[1]}=***", _USER.sub("", text))
