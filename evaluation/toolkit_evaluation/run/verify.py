"""Checking results: do the stored files still decode to what was measured?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.plugin.presets import open_codec
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.run.task import pixels_sha256

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.presets import Preset


def verify(plugins: Plugins, preset: Preset, row: Row) -> Row:
    """Decode the file of a row again and compare; the row comes back if all is well.

    The preset's codec decodes it by what the file says, and finds the weights that the preset
    names. Raises InputError for a file that is another one or shows other pixels,
    and whatever the decoder raises.
    """
    path = Path(str(row.file))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != row.file_sha256:
        raise InputError(f"{path}: not the file that was measured")
    decoded = open_codec(plugins, preset).decode(data)
    if pixels_sha256(decoded.pixels) != row.decoded_sha256:
        raise InputError(f"{path}: decodes to other pixels than those that were measured")
    return row
