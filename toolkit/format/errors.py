"""The ways in which a file can be bad: one class each. All are importable from ``container``."""

from __future__ import annotations

from toolkit.errors import ToolkitError


class BadFile(ToolkitError):
    """A file that can't be decoded. One subclass for each way a file can be bad."""

    exit_status = 3


class NotAContainer(BadFile):
    """It doesn't start as a .qf file does."""


class NewerVersion(BadFile):
    """Written by a later version of the format, or of a codec's stream."""


class Truncated(BadFile):
    """It ends before its declared end."""


class TrailingData(BadFile):
    """It goes on after its declared end."""


class ChecksumMismatch(BadFile):
    """Header or stream differ from what was written."""


class LimitExceeded(BadFile):
    """It declares, or is, more than the limits allow."""


class BadHeader(BadFile):
    """The header says what no writer of this format may say."""


class UnknownPlugin(BadFile):
    """The codec or sampler that the file names isn't there."""

    exit_status = 4


class OtherModel(BadFile):
    """Written with other weights than those at hand."""

    exit_status = 4


class BadStream(BadFile):
    """A stream, or a file of a codec's own format, that its decoder can't make sense of."""
