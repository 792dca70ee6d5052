"""Training begins with other weights: of fewer channels, of another range of lambdas."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from training_runs import SMALL, recipe, said_of, trainer

from toolkit.entropy_model.base import (
    Gaussian,
    kl_bits,
    product_of_gaussians,
    standard_prior,
)
from toolkit.errors import InputError, MissingError
from toolkit.format.weights import load_weights
from toolkit.options import parse_options
from toolkit.training.export import export
from toolkit.training.loop import Trainer
from toolkit_plugins.hyperprior.model import Hyperprior
from toolkit_plugins.pln.model import PLN, PLNOptions


def latents_of(model: Any, x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Encoder means of the level nearest the image, (B, C, h, w)."""
    known = rate if isinstance(model, PLN) else model.blend(rate)
    latents: torch.Tensor = model.analyse(x, known)[0]
    return latents


def image_of(model: Any, latents: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """What the synthesis makes of them, (B, 3, H, W)."""
    if isinstance(model, PLN):
        return model.reconstruct((latents,), rate)
    image: torch.Tensor = model.reconstruct(latents, model.blend(rate))
    return image


def test_more_channels_begin_where_fewer_ended(photos: Path, tmp_path: Path) -> None:
    narrow = trainer(recipe(photos), tmp_path / "narrow")
    narrow.run()
    start = {"weights": str(export(narrow)), "channels": 6}
    options = {**SMALL, "level1_channels": 10}
    wide = trainer(recipe(photos, options=options, start=start), tmp_path / "wide")
    before = PLN(PLNOptions(**SMALL))
    before.load_state_dict(load_file(start["weights"]), strict=True)
    after = wide.parts["model"]
    x, rate = torch.rand(1, 3, 96, 96), torch.tensor([0.3])
    blend = before.blend(rate)
    with torch.no_grad():
        means, wider = (latents_of(model, x, rate) for model in (before, after))
        assert torch.allclose(wider[:, :6], means[:, :6], atol=1e-5)
        # the new channels aren't looked at yet, and the idle old ones no more
        means[:, 6:] = 0
        shown = [image_of(*known, rate) for known in ((before, means), (after, wider))]
        assert torch.allclose(shown[1], shown[0], atol=1e-4)
        upper = [m.analysis2(z, blend)[0] for m, z in ((before, means), (after, wider))]
        assert torch.allclose(upper[1], upper[0], atol=1e-4)
    wide.train_step()
    decoder = after.synthesis1.ups[0].conv.weight
    assert float(decoder[:, 6:].detach().abs().max()) > 0  # training finds them
    wide.save()
    Path(start["weights"]).unlink()
    again = trainer(recipe(photos, options=options, start=start), tmp_path / "wide")
    assert again.step == 1  # a run that goes on needs no start


def grown(photos: Path, folder: Path, kind: str, *channels: int) -> list[Any]:
    """A model of 8 channels, and ones of more on linear paths, each begun with the one before."""
    cls, small, name = PLN, SMALL, "level1_channels"
    if kind == "hyperprior":
        cls, name = Hyperprior, "latent_channels"
        small = {"widths": [8, 8, 8], "latent_channels": 8, "hyper_width": 8, "hyper_channels": 4}
    torch.manual_seed(0)
    models = [cls(parse_options(cls.options_class, small, "test"))]
    for count in channels:
        path = folder / "narrow.safetensors"
        save_file(models[-1].state_dict(), path, metadata=said_of(kind))
        load_weights.cache_clear()
        options = {**small, name: count, "linear": True}
        start = {"weights": str(path), "opens": 0.8}
        models.append(cls(parse_options(cls.options_class, options, "test")))
        run = recipe(photos, model=kind, options=options, start=start)
        Trainer(models[-1], run, folder / str(count))
    return models


@pytest.mark.parametrize("channels", [(24,), (16, 24)])
@pytest.mark.parametrize("kind", ["pln", "hyperprior"])
def test_new_channels_on_linear_paths_show_what_was_missing(
    photos: Path, tmp_path: Path, kind: str, channels: tuple[int, ...]
) -> None:
    models = grown(photos, tmp_path, kind, *channels)
    x = torch.from_numpy(np.stack([np.asarray(Image.open(f)) for f in photos.glob("*.png")]))
    x = x.permute(0, 3, 1, 2)[:, :, 12:108, 32:128].float() / 255
    errors = []
    with torch.no_grad():
        for model in models:
            rate = torch.ones(len(x))
            shown = image_of(model, latents_of(model, x, rate), rate)
            errors.append(float((shown - x).square().mean()))
            assert all(b.isfinite().all() for b in model.training_pass(x, 0 * rate).bits.values())
    assert errors[-1] < 0.5 * errors[0]
    assert all(more < 0.9 * fewer for fewer, more in itertools.pairwise(errors))


@pytest.mark.parametrize("kind", ["pln", "hyperprior"])
def test_new_channels_carry_nothing_below_the_rate_where_they_open(
    photos: Path, tmp_path: Path, kind: str
) -> None:
    narrow, _, wide = grown(photos, tmp_path, kind, 10, 12)
    x = torch.rand(1, 3, 96, 96)
    change = torch.zeros(1, 12, 1, 1)
    change[:, 8:] = 1
    for rate, shut in ((0.5, True), (1.0, False)):
        at = torch.tensor([rate])
        with torch.no_grad():
            latents, before = (latents_of(model, x, at) for model in (wide, narrow))
            if isinstance(wide, PLN):
                encoder = Gaussian(*wide.analyse(x, at)[:2])
                posterior = product_of_gaussians(encoder, standard_prior(latents))
                idle = float(kl_bits(*posterior)[:, 8:].mean()) < 1e-4
            else:
                idle = float(latents[:, 8:].abs().max()) < 0.5
            image = image_of(wide, latents + change, at)
            same = torch.allclose(image, image_of(narrow, before, at), atol=1e-3)
        assert idle == shut
        assert same == shut


def test_new_channels_begin_alike_for_every_distortion(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "narrow.safetensors"
    torch.manual_seed(0)
    save_file(PLN(PLNOptions(**SMALL)).state_dict(), path, metadata=said_of("pln"))
    scales = []
    for distortion, lambdas in (("mse", {}), ("ms-ssim", {"lambda_min": 2.5, "lambda_max": 150})):
        plan = recipe(
            photos,
            options={**SMALL, "level1_channels": 12, "linear": True},
            start={"weights": str(path)},
            objective={"distortion": distortion, "kl_warmup": 0, **lambdas},
        )
        model = trainer(plan, tmp_path / distortion).parts["model"]
        scales.append(model.analysis1.heads.scale_gain.log_gain.detach())
    assert torch.allclose(*scales, atol=1e-5)


def test_gains_stay_with_their_lambda(photos: Path, tmp_path: Path) -> None:
    model = PLN(PLNOptions(**SMALL))
    for name, tensor in model.state_dict().items():
        if name.endswith("log_gain"):
            torch.nn.init.normal_(tensor)
    trained = {"lambda_min": 0.01, "lambda_max": 0.08}
    said = {**said_of("pln"), "objective": json.dumps(trained)}
    save_file(model.state_dict(), tmp_path / "narrow.safetensors", metadata=said)
    objective = {"lambda_min": 0.005, "lambda_max": 0.04, "kl_warmup": 0}
    start = {"weights": str(tmp_path / "narrow.safetensors")}
    options = {**SMALL, "knots": 7}
    wide = trainer(
        recipe(photos, options=options, objective=objective, start=start), tmp_path / "w"
    )
    after = wide.parts["model"]
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        ours = after.analyse(x, torch.tensor([2 / 3]))[:2]
        theirs = model.analyse(x, torch.tensor([1 / 3]))[:2]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SMALL | {"widths": [8, 8, 6]}, "too large for this model"),
        (SMALL, "another kind of model"),
    ],
)
def test_weights_that_cannot_be_begun_with_are_refused(
    photos: Path, tmp_path: Path, model: dict[str, Any], message: str
) -> None:
    state = PLN(PLNOptions(**SMALL)).state_dict()
    if "kind" in message:
        state["more"] = torch.zeros(1)
    path = tmp_path / "weights.safetensors"
    save_file(state, path, metadata=said_of("pln"))
    with pytest.raises(InputError, match=message):
        trainer(recipe(photos, options=model, start={"weights": str(path)}), tmp_path / "run")


def test_files_that_cannot_be_begun_with_are_refused(photos: Path, tmp_path: Path) -> None:
    def begin(path: Path) -> None:
        trainer(recipe(photos, start={"weights": str(path)}), tmp_path / "run")

    other = tmp_path / "other.safetensors"
    save_file(PLN(PLNOptions(**SMALL)).state_dict(), other, metadata=said_of("hyperprior"))
    with pytest.raises(InputError, match=r"other\.safetensors: .* kind of model \(hyperprior\)"):
        begin(other)
    (tmp_path / "text.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"text\.safetensors: not a weights file"):
        begin(tmp_path / "text.safetensors")
    with pytest.raises(MissingError, match=r"none\.safetensors"):
        begin(tmp_path / "none.safetensors")
