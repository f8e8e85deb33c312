"""Long rows are divided into chunks, a thread for each."""

from __future__ import annotations

CHUNK = 64              # entries that are worth a thread of their own
CHUNKS = 1024           # at most


def chunks_of(n):
    """Into how many chunks n entries are divided: chunk c has c n / chunks .. (c + 1) n / chunks - 1."""
    return max(1, min(CHUNKS, n // CHUNK))
