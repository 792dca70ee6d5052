"""Entropy models as PyTorch modules, by the name of a preset, of a model, or by a weights file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toolkit.api import load
from toolkit.device import resolve_device
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.entropy_model.module import LadderModule
    from toolkit.plugin.loader import Plugins


def load_model(
    name: str | Path,
    *,
    rate: float = 0.5,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
    registry: str | Path | None = None,
) -> LadderModule:
    """A model that sends samples as an ``nn.Module`` with CompressAI's interface.

    Arguments:
        name: of a preset (``registry.yaml``), of an entropy model, or a weights file: a path
            (``.safetensors``) or a URL (``toolkit.format.weights_url``).
        rate: in [0, 1]; the module's attribute ``rate`` can be changed at any time.
        device: where the weights go, as of ``toolkit.load``.
        options: of the codec, dotted, as in ``{"levels.default.nu": 10}``.
        plugins: where models come from; None: those installed.
        registry: another file of presets.

    Returns:
        The module in evaluation mode, with weights of its own: nobody else's change. It codes what
        the networks say: refinement of single pictures is the codec's.

    Raises:
        UnknownName: neither a preset nor a model.
        UsageError: its codec sends no samples, or an option isn't right.
        MissingError: weights that aren't there.
    """
    from toolkit.codec.ladder_codec import LadderCodec
    from toolkit.entropy_model.module import LadderModule
    from toolkit.entropy_model.network import load_model as network_of
    from toolkit.format.weights import SUFFIX, load_weights
    from toolkit.format.weights_url import is_url, locate_weights

    preset, settings = str(name), dict(options or {})
    if preset.endswith(SUFFIX) or is_url(preset):
        settings = {"weights": preset, **settings}
        preset = load_weights(locate_weights(preset)).model
    codec = load(preset, settings, plugins=plugins, registry=registry)
    if not isinstance(codec, LadderCodec):
        raise UsageError(f"'{name}': codec '{codec.spec.name}' sends no samples")
    samplers = codec.samplers()
    model = network_of(codec.model, codec.weights).requires_grad_(True)
    weights = load_weights(codec.weights)
    module = LadderModule(
        model,
        samplers,
        codec.model.name,
        weights.objective,
        rate,
        codec.options.seed,
        weights.rates,
    )
    return module.to(resolve_device(device)).eval()
