"""The hooks. A plugin is a module, or any object, that implements some of them.

A complete plugin, in one file, that adds a sampler (run it with ``--plugin FILE``, or make its
module an entry point in the group ``toolkit.plugins``)::

    from toolkit import hookimpl
    from toolkit.plugin.specs import SamplerSpec

    @hookimpl
    def toolkit_samplers():
        yield SamplerSpec("mine", "first good draw", f"{__name__}:Mine")
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.plugin.specs import (
        CodecSpec,
        EntropyModelSpec,
        MetricSpec,
        PresetFile,
        SamplerSpec,
    )

PROJECT = "toolkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def toolkit_codecs() -> Iterable[CodecSpec]:  # type: ignore[empty-body]
    """Codecs: image in, file out, and back.

    ::

        @hookimpl
        def toolkit_codecs():
            yield CodecSpec(
                "raw",
                "pixels, deflated",
                f"{__name__}:Raw",
                rate_parameter=RateParameter("level", 0, 9, integer=True),
            )
    """


@hookspec
def toolkit_entropy_models() -> Iterable[EntropyModelSpec]:  # type: ignore[empty-body]
    """Entropy models: ``toolkit train`` trains them, and each comes with a codec of its name: one
    for all that send samples, its own for one that quantizes.

    ::

        @hookimpl
        def toolkit_entropy_models():
            yield EntropyModelSpec("flat", "one Gaussian for all", f"{__name__}:Flat")
    """


@hookspec
def toolkit_samplers() -> Iterable[SamplerSpec]:  # type: ignore[empty-body]
    """Coded samplers, for any level of any quantization-free codec.

    ::

        @hookimpl
        def toolkit_samplers():
            yield SamplerSpec("mine", "first good draw", f"{__name__}:Mine", tag="mine")
    """


@hookspec
def toolkit_metrics() -> Iterable[MetricSpec]:  # type: ignore[empty-body]
    """Metrics of a decoded image against its original.

    ::

        @hookimpl
        def toolkit_metrics():
            yield MetricSpec("worst", "largest error", f"{__name__}:worst", higher_is_better=False)
    """


@hookspec
def toolkit_presets() -> Iterable[PresetFile]:  # type: ignore[empty-body]
    """Files of presets, read after ``registry.yaml``; a name that is taken stays taken.

    ::

        @hookimpl
        def toolkit_presets():
            yield PresetFile(str(Path(__file__).with_name("presets.yaml")))
    """


@hookspec
def toolkit_row_done(row: dict[str, Any]) -> None:
    """Observer: an evaluation row has been stored. It gets a copy and can't change results;
    one that raises is reported and left out for the rest of the run.

    ::

        @hookimpl
        def toolkit_row_done(row):
            print(row["image"], row["bpp"])
    """


@hookspec
def toolkit_training_record(folder: Path, record: dict[str, Any]) -> None:
    """Observer: a record was written to ``log.jsonl`` of the run in ``folder``: for a tracker of
    one's own. ``record["kind"]`` is ``step``, ``validation``, ``skip``, ``resumed`` or ``note``;
    what else is in it, docs/training.md says. As above, one that raises is left out.

    ::

        @hookimpl
        def toolkit_training_record(record):
            if record["kind"] == "step":
                tracker.log(record, step=record["step"])
    """
