"""What differs between the versions of PyAV."""

from __future__ import annotations

from typing import Any

import av

_MAJOR = int(av.__version__.partition(".")[0])

# Of text in a container that is no UTF-8; from 19 on PyAV replaces by itself what cannot be read.
LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if _MAJOR < 19 else {}

# From 17 on FFmpeg's scaler has several threads, which write 8 pixels of alpha beyond the rows of
# their parts where the width is no multiple of 16.
ONE_THREAD: dict[str, Any] = {"threads": 1} if _MAJOR >= 17 else {}
