"""Text on its way into a file that every reader accepts."""

from __future__ import annotations

import re

# XML 1.0, section 2.2: what is no character there; HTML calls nearly the same a parse error. JSON can carry all of it.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")


def xml_safe(text: str) -> bytes:
    """UTF-8, with a replacement character for what is no character, such as half of a surrogate pair."""
    return _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text).encode()
