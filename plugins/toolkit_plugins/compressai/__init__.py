"""CompressAI's entropy models, which quantize, and the same latents without quantization."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import CodecSpec, EntropyModelSpec, RateParameter

_BALLE, _MINNEN = "Balle et al. 2018, arXiv:1802.01436", "Minnen et al. 2018, arXiv:1809.02736"
_CHENG, _KAMISLI = "Cheng et al. 2020, arXiv:2001.01568", "Kamisli et al. 2024, arXiv:2402.18930"
_QUANTIZED = {
    "bmshj2018-factorized": ("factorized prior", _BALLE, "FactorizedPrior"),
    "bmshj2018-hyperprior": ("scale hyperprior", _BALLE, "ScaleHyperprior"),
    "mbt2018-mean": ("mean and scale hyperprior", _MINNEN, "MeanScaleHyperprior"),
    "mbt2018": ("autoregressive and hyperprior", _MINNEN, "JointAutoregressive"),
    "cheng2020-anchor": ("residual blocks", _CHENG, "Cheng2020Anchor"),
    "cheng2020-attn": ("residual blocks, attention", _CHENG, "Cheng2020Attention"),
    "bmshj2018-hyperprior-vbr": ("variable rate", _KAMISLI, "ScaleHyperpriorVariable"),
    "mbt2018-mean-vbr": ("variable rate", _KAMISLI, "MeanScaleHyperpriorVariable"),
    "mbt2018-vbr": ("variable rate, autoregressive", _KAMISLI, "JointAutoregressiveVariable"),
}
_NEEDS = ("python:compressai",)
_HERE = "toolkit_plugins.compressai"


@hookimpl
def toolkit_entropy_models() -> Iterable[EntropyModelSpec]:
    for name, (words, reference, model) in _QUANTIZED.items():
        variable = name.endswith("-vbr")
        yield EntropyModelSpec(
            name,
            f"quantized baseline of CompressAI: {words}",
            f"{_HERE}.trainable:{model}",
            needs=_NEEDS,
            reference=reference,
            codec=f"{_HERE}.quantized:QuantizedCodec",
            codec_needs=_NEEDS,
            rate_parameter=RateParameter(
                "quality", 1, 6 if name.startswith("cheng") else 8, integer=not variable
            ),
            availability=f"{_HERE}.hub:unavailable_reason",
        )


@hookimpl
def toolkit_codecs() -> Iterable[CodecSpec]:
    yield CodecSpec(
        "latents",
        "latents of a CompressAI hyperprior model: rounded, dithered, or coded as samples",
        f"{_HERE}.latents:LatentsCodec",
        needs=(*_NEEDS, "python:constriction"),
        reference="Flamich 2019; Agustsson and Theis 2020, arXiv:2006.09952",
        rate_parameter=RateParameter("quality", 1, 8),
    )
