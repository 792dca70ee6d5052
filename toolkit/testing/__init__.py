"""Conformance kits of samplers, codecs, metrics and entropy models, built-in or of plugins.

::

    from toolkit.testing import check_sampler

    def test_mine():
        report = check_sampler("mine", plugins=load_plugins([Path("mine.py")]))
        print(report)

``check_codec``, ``check_metric`` and ``check_entropy_model`` are the same for the other kinds.
Whatever a plugin does wrong raises ``ConformanceError``, whose message says which check, on
what, and what was seen. What isn't wrong but worth knowing (bias, rate, figure of merit J,
times) is in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toolkit.sampling.contract import Sampler
from toolkit.testing import checks, streams
from toolkit.testing.codecs import CodecReport, check_codec
from toolkit.testing.metrics import MetricReport, check_metric
from toolkit.testing.models import ModelReport, check_entropy_model
from toolkit.testing.subject import ConformanceError, Report, Subject, maker

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins

__all__ = [
    "CodecReport",
    "ConformanceError",
    "MetricReport",
    "ModelReport",
    "Report",
    "check_codec",
    "check_entropy_model",
    "check_metric",
    "check_sampler",
]


def check_sampler(
    sampler: str | Sampler,
    options: Mapping[str, Any] | None = None,
    *,
    plugins: Plugins | None = None,
    targets: int = 200,
    damaged: int = 100,
    seed: int = 0,
    slow: bool = False,
) -> Report:
    """Put a sampler, given by name and options or as itself, through all checks.

    Arguments:
        sampler: its name, or one that is made already.
        options: of a sampler given by name.
        plugins: where names are looked up; the installed ones by default.
        targets: random levels for the round trip.
        damaged: damaged streams.
        seed: of targets, damage and shared random numbers.
        slow: whether a level of a million latent elements is coded, too.

    Returns:
        What was found about the sampler: rate, figure of merit, bias, times.

    Raises:
        ConformanceError: for the first thing that is wrong.
    """
    name, make = maker(sampler, options or {}, plugins)
    subject = Subject(name, make, seed)
    report = Report(name, make().exact)
    checks.check_round_trips(subject, report, targets, slow)
    checks.check_typical(subject, report)
    streams.check_stream_end(subject, report)
    streams.check_damage(subject, report, damaged)
    checks.check_random_access(subject, report)
    checks.check_threads(subject, report)
    if report.exact:
        checks.check_exactness(subject, report)
    return report
