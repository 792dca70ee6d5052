"""Baselines that quantize, by CompressAI, and the same latents without quantization."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import CodecSpec, RateParameter

_QUANTIZED = {
    "bmshj2018-factorized": ("factorized prior", "Balle et al. 2018, arXiv:1802.01436"),
    "bmshj2018-hyperprior": ("scale hyperprior", "Balle et al. 2018, arXiv:1802.01436"),
    "mbt2018-mean": ("mean and scale hyperprior", "Minnen et al. 2018, arXiv:1809.02736"),
    "mbt2018": ("autoregressive and hyperprior", "Minnen et al. 2018, arXiv:1809.02736"),
    "cheng2020-anchor": ("residual blocks", "Cheng et al. 2020, arXiv:2001.01568"),
    "cheng2020-attn": ("residual blocks, attention", "Cheng et al. 2020, arXiv:2001.01568"),
    "bmshj2018-hyperprior-vbr": ("variable rate", "Kamisli et al. 2024, arXiv:2402.18930"),
    "mbt2018-mean-vbr": ("variable rate", "Kamisli et al. 2024, arXiv:2402.18930"),
    "mbt2018-vbr": ("variable rate, autoregressive", "Kamisli et al. 2024, arXiv:2402.18930"),
}
_NEEDS = ("python:compressai",)
_HUB = "toolkit_plugins.compressai.hub"


@hookimpl
def toolkit_codecs() -> Iterable[CodecSpec]:
    for name, (words, reference) in _QUANTIZED.items():
        variable = name.endswith("-vbr")
        yield CodecSpec(
            name,
            f"quantized baseline of CompressAI: {words}",
            "toolkit_plugins.compressai.quantized:QuantizedCodec",
            needs=_NEEDS,
            reference=reference,
            rate_parameter=RateParameter(
                "quality", 1, 6 if name.startswith("cheng") else 8, integer=not variable
            ),
            availability=f"{_HUB}:unavailable_reason",
        )
    yield CodecSpec(
        "latents",
        "latents of a CompressAI hyperprior model: rounded, dithered, or coded as samples",
        "toolkit_plugins.compressai.latents:LatentsCodec",
        needs=(*_NEEDS, "python:constriction"),
        reference="Flamich 2019; Agustsson and Theis 2020, arXiv:2006.09952",
        rate_parameter=RateParameter("quality", 1, 8),
    )
