"""Kinds of broken plugins: source of the module, and what must be said of it."""

from __future__ import annotations

HEAD = """
from toolkit import hookimpl
from toolkit.plugin.specs import CodecSpec, SamplerSpec, MetricSpec
"""

FAULTY = {
    "hook exits": (
        HEAD + "@hookimpl\ndef toolkit_codecs():\n    raise SystemExit(3)",
        "SystemExit: 3",
    ),
    "raises on import": ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    "exits on import": ("raise SystemExit(7)", "SystemExit: 7"),
    "syntax error": ("def f(:", "SyntaxError"),
    "missing package": ("import no_such_package", "No module named 'no_such_package'"),
    "wrong hook argument": (
        HEAD + "@hookimpl\ndef toolkit_codecs(whatever):\n    return []",
        "whatever",
    ),
    "unknown hook": (
        HEAD + "@hookimpl\ndef toolkit_codec():\n    return []",
        "no hook is called toolkit_codec",
    ),
    "hook raises": (HEAD + "@hookimpl\ndef toolkit_codecs():\n    1 / 0", "ZeroDivisionError"),
    "no descriptor": (
        HEAD + "@hookimpl\ndef toolkit_codecs():\n    yield 'jpeg'",
        "which is no CodecSpec",
    ),
    "descriptor of another kind": (
        HEAD + "@hookimpl\ndef toolkit_codecs():\n    yield SamplerSpec('x', '', 'a:B')",
        "which is no CodecSpec",
    ),
    "taken name": (
        HEAD + "@hookimpl\ndef toolkit_codecs():\n    yield CodecSpec('pln', '', 'a:B')",
        "codec 'pln' is provided by pln (built-in) already",
    ),
    "taken tag": (
        HEAD + "@hookimpl\ndef toolkit_samplers():\n"
        "    yield SamplerSpec('other', '', 'a:B', tag='tc')",
        "tag 'tc' is trellis's",
    ),
    "bad name": (
        HEAD + "@hookimpl\ndef toolkit_codecs():\n    yield CodecSpec('Not Good', '', 'a:B')",
        "bad name",
    ),
    "bad factory": (
        HEAD + "@hookimpl\ndef toolkit_codecs():\n    yield CodecSpec('ok', '', 'a.B')",
        "factory must be",
    ),
}
