"""Checks of ladders: what an encoder and a decoder must agree on, level by level."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from toolkit.entropy_model.base import LadderModel, Level, Size, State
from toolkit.entropy_model.tiles import Tile
from toolkit.testing.subject import ConformanceError, described
from toolkit.testing.training import RATES, images
from toolkit.training.objective import SortsChannels

if TYPE_CHECKING:
    from toolkit.testing.models import ModelReport

T = TypeVar("T")

CLOSE = 1e-3
"""Of a map's largest value: how far results may lie apart that are summed in another order."""


@dataclass(frozen=True)
class _Walk:
    """A way down the ladder, and all that was found on it."""

    levels: list[Level]
    states: list[State]
    """Before each level, and the last."""
    samples: list[Tensor]
    """Of each level, in units of its prior."""
    image: Tensor


def check_ladder(model: LadderModel, report: ModelReport, seed: int) -> None:
    """All checks of the methods that a ladder is made of."""
    _check_attributes(model)
    side = _padded(model, 96)
    x = images(2, side, side + model.stride, seed)
    report.picture = (x.shape[2], x.shape[3])
    with torch.no_grad():
        _check_shapes(model, x, report)
        _check_rates(model, x, seed)
        _check_decoder(model, x, seed)
        _check_repeatable(model, x, seed)
        _check_threads(model, x)
        _check_batch(model, x, seed)
        _check_reach(model, seed)
        _check_sorting(model, x)
    report.checks += [
        "shapes", "rates", "features", "repeatability", "threads", "batch", "reach"
    ]  # fmt: skip


def _padded(model: LadderModel, least: int) -> int:
    """A side of at least so many pixels that the model takes."""
    least = max(least, model.least_side, 2 * model.stride)
    return -(-least // model.stride) * model.stride


# -- the way down -----------------------------------------------------------------------


def _call(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """The result; the arguments' maps must stay as they are."""
    before = [_copied(argument) for argument in arguments]
    try:
        result = function(*arguments)
    except Exception as error:
        raise ConformanceError("running", f"{what} raised {described(error)}") from error
    for argument, old in zip(arguments, before, strict=True):
        if not _same(argument, old):
            raise ConformanceError("inputs", f"{what} changes a map that it was given")
    return result


def _copied(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.clone()
    return tuple(t.clone() for t in argument) if _is_state(argument) else argument


def _same(argument: Any, old: Any) -> bool:
    if isinstance(argument, Tensor):
        return bool(torch.equal(argument, old) or argument.isnan().any())
    if _is_state(argument):
        return all(_same(a, b) for a, b in zip(argument, old, strict=True))
    return True


def _is_state(argument: Any) -> bool:
    return isinstance(argument, tuple) and all(isinstance(item, Tensor) for item in argument)


def _walk(
    model: LadderModel,
    size: Size,
    rate: Tensor,
    features: State | None,
    samples: list[Tensor] | None = None,
    noise: int | None = None,
) -> _Walk:
    """Down the ladder with these samples, or those of the posteriors: at their means, or with
    noise of this seed."""
    generator = torch.Generator().manual_seed(noise or 0)
    state = _state(_call("start", model.start, size, rate), "start", size)
    levels, states, chosen = [], [state], []
    for index in range(model.depth):
        level = _call(f"level({index})", model.level, index, state, features, rate)
        _check_level(level, index, features is not None, size)
        if samples is not None:
            c = samples[index]
        else:
            assert level.posterior is not None
            d, log_r = level.posterior
            c = d
            if noise is not None:
                c = d + torch.exp(log_r) * torch.randn(d.shape, generator=generator)
        state = _call(f"descend({index})", model.descend, index, state, level.latent(c), rate)
        state = _state(state, f"descend({index})", size)
        levels.append(level)
        states.append(state)
        chosen.append(c)
    image = _call("reconstruct", model.reconstruct, state, rate)
    _check_map(image, "reconstruct", (size.batch, 3, size.height, size.width))
    return _Walk(levels, states, chosen, image)


def _features(model: LadderModel, x: Tensor, rate: Tensor) -> State:
    size = Size(len(x), x.shape[2], x.shape[3])
    return _state(_call("analyse", model.analyse, x, rate), "analyse", size)


def _encoder_walk(model: LadderModel, x: Tensor, rate: Tensor, noise: int | None = None) -> _Walk:
    size = Size(len(x), x.shape[2], x.shape[3])
    return _walk(model, size, rate, _features(model, x, rate), noise=noise)


def _decoder_walk(model: LadderModel, found: _Walk, rate: Tensor) -> _Walk:
    batch, _, height, width = found.image.shape
    return _walk(model, Size(batch, height, width), rate, None, found.samples)


def _state(state: Any, what: str, size: Size) -> State:
    if not _is_state(state):
        raise ConformanceError("shapes", f"{what} must return a tuple of maps (B, C, h, w)")
    for number, tensor in enumerate(state):
        _check_map(tensor, f"map {number} of {what}", (size.batch, -1, -1, -1))
        rows, columns = tensor.shape[2:]
        if size.height * columns != size.width * rows:
            raise ConformanceError(
                "shapes",
                f"map {number} of {what} has {rows}x{columns} cells for a picture of "
                f"{size.height}x{size.width}: all maps lie at strides",
            )
    found: State = state
    return found


def _check_map(tensor: Any, what: str, shape: tuple[int, ...]) -> None:
    """Of this shape (-1: any), and finite."""
    if not isinstance(tensor, Tensor):
        raise ConformanceError("shapes", f"{what} is no tensor: {type(tensor).__name__}")
    fits = tensor.ndim == len(shape) and all(
        want in (-1, have) for have, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if side < 0 else str(side) for side in shape)
        raise ConformanceError("shapes", f"{what} has shape {tuple(tensor.shape)}, not ({wanted})")
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ConformanceError("finite values", f"{what}: {bad} are NaN or infinite")


def _check_level(level: Any, index: int, encoder: bool, size: Size) -> None:
    what = f"level({index})"
    if not isinstance(level, Level):
        raise ConformanceError("shapes", f"{what} must return a Level")
    if encoder and level.posterior is None:
        raise ConformanceError("features", f"{what} has no posterior, though there are features")
    if not encoder and level.posterior is not None:
        raise ConformanceError("features", f"{what} has a posterior without features")
    named = {"prior": level.prior, "posterior": level.posterior}
    shape = tuple(level.prior.mean.shape) if isinstance(level.prior.mean, Tensor) else ()
    for part, gaussian in named.items():
        for name, tensor in gaussian._asdict().items() if gaussian is not None else ():
            label = f"{part}.{name} of {what}"
            _check_map(tensor, label, (size.batch, -1, -1, -1))
            _check_map(tensor, label, shape)
    if encoder:
        _check_map(level.kl_bits(), f"KL in bits of {what}", shape)


def _different(a: Tensor, b: Tensor) -> bool:
    """Whether two maps differ by more than the order of sums."""
    scale = float(torch.maximum(a.abs().max(), b.abs().max()))
    return float((a - b).abs().max()) > CLOSE * max(scale, 1e-6)


def _maps(level: Level) -> dict[str, Tensor]:
    found = {"prior": level.prior, "posterior": level.posterior}
    return {
        f"{part}.{name}": tensor
        for part, gaussian in found.items()
        for name, tensor in (gaussian._asdict().items() if gaussian is not None else ())
    }


# -- checks -----------------------------------------------------------------------------


def _check_attributes(model: LadderModel) -> None:
    for name in ("stride", "least_side", "depth", "reach"):
        value = getattr(model, name)
        if not isinstance(value, int) or value < (0 if name == "reach" else 1):
            raise ConformanceError("interface", f"{name} must be a whole number, not {value!r}")


def _check_shapes(model: LadderModel, x: Tensor, report: ModelReport) -> None:
    """Maps as the base class says: for the shapes alone, for encoder and decoder."""
    rate = torch.tensor([0.3, 0.7])
    found = _encoder_walk(model, x, rate)
    expected = _call("shapes", model.shapes, Size(1, x.shape[2], x.shape[3]))
    for index, (level, shape) in enumerate(zip(found.levels, expected, strict=True)):
        if tuple(level.prior.mean.shape[1:]) != shape:
            raise ConformanceError(
                "shapes",
                f"level({index}) is {tuple(level.prior.mean.shape[1:])} in a picture of "
                f"{x.shape[2]}x{x.shape[3]}, where its size in a small one makes {shape}",
            )
        report.levels[model.name(index)] = shape
    least = max(model.stride, -(-model.least_side // model.stride) * model.stride)
    small = images(1, least, least, 1)
    _encoder_walk(model, small, rate[:1])


def _check_rates(model: LadderModel, x: Tensor, seed: int) -> None:
    """Every rate gives finite bits, of extreme pictures, too."""
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
    for rate in RATES:
        for picture in (x, torch.zeros_like(x), torch.ones_like(x), noise):
            _encoder_walk(model, picture, torch.full((2,), rate), noise=seed)


def _check_decoder(model: LadderModel, x: Tensor, seed: int) -> None:
    """A decoder, which has no features, finds the same priors and the same image."""
    for rate in RATES:
        at = torch.full((2,), rate)
        found = _encoder_walk(model, x, at, noise=seed)
        _features(model, 1 - x.flip(3), at)  # what a model keeps of a picture is another's now
        decoded = _decoder_walk(model, found, at)
        for index, (ours, theirs) in enumerate(zip(found.levels, decoded.levels, strict=True)):
            if not all(torch.equal(a, b) for a, b in zip(ours.prior, theirs.prior, strict=True)):
                raise ConformanceError(
                    "features",
                    f"level({index}): the prior is another one without features: a decoder, which "
                    "has none, can't follow",
                )
        if not torch.equal(found.image, decoded.image):
            raise ConformanceError(
                "features", "the image is another one where features weren't there: see reconstruct"
            )


def _check_repeatable(model: LadderModel, x: Tensor, seed: int) -> None:
    """The same picture, the same maps."""
    rate = torch.tensor([0.2, 0.9])
    first, second = (_encoder_walk(model, x, rate, noise=seed) for _ in range(2))
    for index, (a, b) in enumerate(zip(first.levels, second.levels, strict=True)):
        for name, tensor in _maps(a).items():
            if not torch.equal(tensor, _maps(b)[name]):
                raise ConformanceError(
                    "repeatability", f"level({index}): {name} differs the second time"
                )
    if not torch.equal(first.image, second.image):
        raise ConformanceError("repeatability", "the image differs the second time")


def _check_threads(model: LadderModel, x: Tensor) -> None:
    """The same images from several threads at once, and with another number of torch's."""
    rates = [torch.tensor(pair) for pair in ([0.2, 0.9], [0.5, 0.0], [1.0, 0.4])]
    walks = [_encoder_walk(model, x, rate) for rate in rates]

    def decode(number: int) -> Tensor:
        with torch.no_grad():
            return _decoder_walk(model, walks[number], rates[number]).image

    with ThreadPoolExecutor(len(walks)) as pool:
        try:
            decoded = list(pool.map(decode, range(len(walks))))
        except ConformanceError as error:
            raise ConformanceError("threads", f"several that decode at once: {error}") from error
    if not all(torch.equal(walk.image, image) for walk, image in zip(walks, decoded, strict=True)):
        raise ConformanceError("threads", "another image where several threads decode at once")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if before != 3 else 2)
        if _different(decode(0), walks[0].image):
            raise ConformanceError("threads", "another image with another number of threads")
    finally:
        torch.set_num_threads(before)


def _check_batch(model: LadderModel, x: Tensor, seed: int) -> None:
    """Each picture of a batch, each at its rate, is as if it were alone."""
    rate = torch.tensor([0.2, 0.9])
    both = _encoder_walk(model, x, rate)
    for i in range(2):
        alone = _encoder_walk(model, x[i : i + 1], rate[i : i + 1])
        pairs = [
            (f"level({index}): {name}", tensor[i : i + 1], _maps(b)[name])
            for index, (a, b) in enumerate(zip(both.levels, alone.levels, strict=True))
            for name, tensor in _maps(a).items()
        ]
        for what, a, b in [*pairs, ("the image", both.image[i : i + 1], alone.image)]:
            if _different(a, b):
                raise ConformanceError(
                    "batch", f"{what} depends on what else is in the batch, or on its rates"
                )


def _check_reach(model: LadderModel, seed: int) -> None:
    """A piece with margins of ``reach`` gives what the whole picture gives there, step by step."""
    stride, height = model.stride, _padded(model, 1)
    margin = -(-model.reach // stride) * stride
    width = _padded(model, 2 * margin + 3 * stride)
    size = Size(1, height, width)
    inner = (margin + stride, margin + 2 * stride)
    outer = (inner[0] - margin, inner[1] + margin)
    tile = Tile(size, ((0, height), outer), ((0, height), inner))
    rate = torch.tensor([0.6])
    features = _features(model, images(1, height, width, seed), rate)
    whole = _walk(model, size, rate, features, noise=seed)
    cropped = tile.crop_all(features)
    for index, level in enumerate(whole.levels):
        state = tile.crop_all(whole.states[index])
        if index:
            z = tile.crop(whole.levels[index - 1].latent(whole.samples[index - 1]))
            state = model.descend(index - 1, tile.crop_all(whole.states[index - 1]), z, rate)
        piece = _call(f"level({index})", model.level, index, state, cropped, rate)
        for name, tensor in _maps(level).items():
            if _different(tile.count(tile.crop(tensor)), tile.count(_maps(piece)[name])):
                raise _beyond(model, f"{name} of level({index})")
    last = model.depth - 1
    z = tile.crop(whole.levels[last].latent(whole.samples[last]))
    state = model.descend(last, tile.crop_all(whole.states[last]), z, rate)
    image = _call("reconstruct", model.reconstruct, state, rate)
    if _different(tile.count(tile.crop(whole.image)), tile.count(image)):
        raise _beyond(model, "the image")


def _beyond(model: LadderModel, what: str) -> ConformanceError:
    return ConformanceError(
        "reach",
        f"{what} depends on more than {model.reach} pixels around it, which 'reach' says is enough",
    )


def _check_sorting(model: LadderModel, x: Tensor) -> None:
    """Sorting channels changes nothing but their order."""
    if not isinstance(model, SortsChannels):
        return
    rate = torch.tensor([0.2, 0.9])
    before = _encoder_walk(model, x, rate)
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.sort_channels(x)
    after = _encoder_walk(model, x, rate)
    model.load_state_dict(saved)
    same_bits = all(
        math.isclose(float(a.kl_bits().sum()), float(b.kl_bits().sum()), rel_tol=CLOSE, abs_tol=1)
        for a, b in zip(before.levels, after.levels, strict=True)
    )
    if not same_bits or _different(before.image, after.image):
        raise ConformanceError("sort_channels", "it changes what the network computes")
