"""check_entropy_model: passes what is right, and names what is wrong with models that are broken
on purpose."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolkit.entropy_model.base import Gaussian, Level, State
from toolkit.errors import UnknownName, UsageError
from toolkit.plugin.loader import load_plugins
from toolkit.testing import ConformanceError, check_entropy_model
from toolkit.training.objective import TrainingPass

EXAMPLE = Path(__file__).parents[2] / "examples" / "entropy_model.py"
PLUGINS = load_plugins([EXAMPLE])
Tiny: Any = PLUGINS.entropy_model("tiny").loaded
SMALL = {"width": 6, "channels": [2, 3]}
PLN = {"widths": [8, 8, 8], "level1_channels": 8, "level2_width": 8, "level2_channels": 4}
VAE = {"widths": [8, 8, 8], "level1_channels": 8}
HYPERPRIOR = {"widths": [8, 8, 8], "latent_channels": 8, "hyper_width": 8, "hyper_channels": 8}


def refused(model: Any, which: str, message: str) -> None:
    with pytest.raises(ConformanceError, match=message) as error:
        check_entropy_model(model, SMALL, plugins=PLUGINS)
    assert error.value.check == which


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [
        ("tiny", SMALL, 2),
        ("pln", {**PLN, "linear": True}, 2),
        pytest.param("pln", PLN, 2, marks=pytest.mark.slow),
        pytest.param("vae", VAE, 1, marks=pytest.mark.slow),
    ],
)
def test_built_in_ones_pass(name: str, options: dict[str, Any], levels: int) -> None:
    report = check_entropy_model(name, options, plugins=PLUGINS)
    assert len(report.levels) == levels
    assert report.codec is not None
    assert report.codec.files == 11
    assert {"export", "reach", "gradients", "features"} <= set(report.checks)
    assert "weights at" in str(report)


def test_models_that_round_are_checked_as_far_as_they_are_trained() -> None:
    report = check_entropy_model("hyperprior", HYPERPRIOR)
    assert report.checks == ["export", "training pass", "gradients"]
    assert report.codec is None


def test_by_descriptor_and_by_class() -> None:
    spec = PLUGINS.entropy_model("tiny")
    assert check_entropy_model(spec, SMALL, damaged=8).model == "tiny"
    assert check_entropy_model(Tiny, SMALL, damaged=8).model == "under-test"


def test_names_and_options_are_checked() -> None:
    with pytest.raises(UnknownName, match="nearest: tiny"):
        check_entropy_model("tinny", plugins=PLUGINS)
    with pytest.raises(UsageError, match="no option 'widht'; nearest: width"):
        check_entropy_model("tiny", {"widht": 3}, plugins=PLUGINS)


# -- interface, export --------------------------------------------------------------------


def test_interface() -> None:
    class NoMethods(nn.Module):
        pass

    class OddOptions(Tiny):  # type: ignore[misc]
        options_class = dict

    class Fails(Tiny):  # type: ignore[misc]
        def __init__(self, options: Any) -> None:
            raise ZeroDivisionError("width")

    class Forgets(Tiny):  # type: ignore[misc]
        def __init__(self, options: Any) -> None:
            super().__init__(options)
            del self.options

    class HalfDepth(Tiny):  # type: ignore[misc]
        stride = 8.0

    refused(NoMethods, "interface", "NoMethods lacks options_class, training_pass")
    refused(OddOptions, "interface", "options_class must be a subclass of Options")
    refused(Fails, "interface", r"Fails\(options\) raised ZeroDivisionError \(width\)")
    refused(Forgets, "interface", "must keep its options in the attribute 'options'")
    refused(HalfDepth, "interface", "stride must be a whole number, not 8.0")


def test_export() -> None:
    class Grows(Tiny):  # type: ignore[misc]
        numbers = itertools.count(1)

        def __init__(self, options: Any) -> None:
            super().__init__(options)
            self.table = nn.Parameter(torch.zeros(next(Grows.numbers)))

    refused(Grows, "export", "exported weights can't be loaded: .*size mismatch for table")


# -- maps -----------------------------------------------------------------------------------


def test_running() -> None:
    class Fails(Tiny):  # type: ignore[misc]
        def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
            return super().descend(index, state, z[:, :1], rate)  # type: ignore[no-any-return]

    class InPlace(Tiny):  # type: ignore[misc]
        def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
            state[0].copy_(super().descend(index, state, z, rate)[0])
            return state

        def start(self, size: Any, rate: Tensor) -> State:
            return (super().start(size, rate)[0].clone(),)

    refused(Fails, "running", r"descend\(0\) raised RuntimeError")
    refused(InPlace, "inputs", r"descend\(0\) changes a map that it was given")


def test_shapes() -> None:
    class NoTuple(Tiny):  # type: ignore[misc]
        def analyse(self, x: Tensor, rate: Tensor) -> State:
            return super().analyse(x, rate)[0]  # type: ignore[no-any-return]

    class OneOfAll(Tiny):  # type: ignore[misc]
        def analyse(self, x: Tensor, rate: Tensor) -> State:
            return (super().analyse(x, rate)[0][:1],)

    class Square(Tiny):  # type: ignore[misc]
        def analyse(self, x: Tensor, rate: Tensor) -> State:
            return (*super().analyse(x, rate), x[:, :, :8, :8])

    class NoLevel(Tiny):  # type: ignore[misc]
        def level(self, index: int, *arguments: Any) -> Level:
            return super().level(index, *arguments).prior  # type: ignore[no-any-return]

    class Misshapen(Tiny):  # type: ignore[misc]
        def level(self, index: int, *arguments: Any) -> Level:
            prior, posterior = vars(super().level(index, *arguments)).values()
            return Level(Gaussian(prior.mean, prior.log_scale[:, :1]), posterior)

    class Numbers(Tiny):  # type: ignore[misc]
        def level(self, index: int, *arguments: Any) -> Level:
            return Level(Gaussian(0.0, 0.0), super().level(index, *arguments).posterior)  # type: ignore[arg-type]

    class Gray(Tiny):  # type: ignore[misc]
        def reconstruct(self, state: State, rate: Tensor) -> Tensor:
            return super().reconstruct(state, rate)[:, :1]  # type: ignore[no-any-return]

    class Fixed(Tiny):  # type: ignore[misc]
        """The top level has as many channels as its map has columns."""

        def level(self, index: int, *arguments: Any) -> Level:
            found: Level = super().level(index, *arguments)
            if index:
                return found
            columns = found.prior.mean.shape[3]
            return Level(
                *(
                    None
                    if g is None
                    else Gaussian(*(t[:, :1].expand(-1, columns, -1, -1) for t in g))
                    for g in (found.prior, found.posterior)
                )  # type: ignore[arg-type]
            )

        def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
            return super().descend(
                index, state, z if index else z[:, :1].expand(-1, 2, -1, -1), rate
            )  # type: ignore[no-any-return]

    refused(NoTuple, "shapes", r"analyse must return a tuple of maps \(B, C, h, w\)")
    refused(OneOfAll, "shapes", r"map 0 of analyse has shape \(1, 6, 12, 13\), not \(2, any")
    refused(Square, "shapes", "map 1 of analyse has 8x8 cells for a picture of 96x104")
    refused(NoLevel, "shapes", r"level\(0\) must return a Level")
    refused(
        Misshapen, "shapes", r"prior.log_scale of level\(0\) has shape .*, not \(2, 2, 12, 13\)"
    )
    refused(Numbers, "shapes", r"prior.mean of level\(0\) is no tensor: float")
    refused(Gray, "shapes", r"reconstruct has shape \(2, 1, 96, 104\), not \(2, 3, 96, 104\)")
    refused(Fixed, "shapes", r"level\(0\) is \(13, 12, 13\) .* makes \(1, 12, 13\)")


def test_finite_values() -> None:
    class Divides(Tiny):  # type: ignore[misc]
        def analyse(self, x: Tensor, rate: Tensor) -> State:
            return (super().analyse(x, rate)[0] / x.mean((1, 2, 3), keepdim=True),)

    class Explodes(Tiny):  # type: ignore[misc]
        def level(self, index: int, *arguments: Any) -> Level:
            found: Level = super().level(index, *arguments)
            if found.posterior is None:
                return found
            return Level(
                found.prior, Gaussian(found.posterior.mean, 60 + found.posterior.log_scale)
            )

    refused(Divides, "finite values", r"map 0 of analyse: \d+ are NaN or infinite")
    refused(Explodes, "finite values", r"KL in bits of level\(0\): \d+ are NaN or infinite")


# -- encoder and decoder ---------------------------------------------------------------------


def test_features() -> None:
    class NoPosterior(Tiny):  # type: ignore[misc]
        def level(self, index: int, *arguments: Any) -> Level:
            return Level(super().level(index, *arguments).prior)

    class Always(Tiny):  # type: ignore[misc]
        def level(self, index: int, *arguments: Any) -> Level:
            found: Level = super().level(index, *arguments)
            return Level(found.prior, found.posterior or found.prior)

    class Peeks(Tiny):  # type: ignore[misc]
        def level(self, index: int, state: State, features: State | None, rate: Tensor) -> Level:
            seen = state if features is None else (state[0] + 0.01 * features[0],)
            return super().level(index, seen, features, rate)  # type: ignore[no-any-return]

    class Keeps(Tiny):  # type: ignore[misc]
        shade: Tensor | float = 0.0

        def analyse(self, x: Tensor, rate: Tensor) -> State:
            self.shade = x[0].mean()
            return super().analyse(x, rate)  # type: ignore[no-any-return]

        def reconstruct(self, state: State, rate: Tensor) -> Tensor:
            return super().reconstruct(state, rate) + 0.1 * self.shade  # type: ignore[no-any-return]

    refused(NoPosterior, "features", r"level\(0\) has no posterior, though there are features")
    refused(Always, "features", r"level\(0\) has a posterior without features")
    refused(Peeks, "features", r"level\(0\): the prior is another one without features")
    refused(Keeps, "features", "the image is another one where features weren't there")


def test_repeatability() -> None:
    class Noisy(Tiny):  # type: ignore[misc]
        def analyse(self, x: Tensor, rate: Tensor) -> State:
            return super().analyse(x + 0.1 * torch.rand_like(x), rate)  # type: ignore[no-any-return]

    class Grainy(Tiny):  # type: ignore[misc]
        """Grain that is the same for a picture twice in a row."""

        calls = itertools.count()

        def reconstruct(self, state: State, rate: Tensor) -> Tensor:
            return super().reconstruct(state, rate) + 0.01 * (next(self.calls) // 2)  # type: ignore[no-any-return]

    refused(Noisy, "repeatability", r"level\(0\): posterior.mean differs the second time")
    with pytest.raises(ConformanceError, match=r"features: the image|the image differs"):
        check_entropy_model(Grainy, SMALL, plugins=PLUGINS)


def test_threads() -> None:
    class Shares(Tiny):  # type: ignore[misc]
        def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
            self.z = z
            time.sleep(0.01)
            return super().descend(index, state, self.z, rate)  # type: ignore[no-any-return]

    class Counts(Tiny):  # type: ignore[misc]
        def reconstruct(self, state: State, rate: Tensor) -> Tensor:
            return super().reconstruct(state, rate) * torch.get_num_threads()  # type: ignore[no-any-return]

    refused(Shares, "threads", "several that decode at once|several threads decode at once")
    refused(Counts, "threads", "another image with another number of threads")


def test_batch() -> None:
    class FirstRate(Tiny):  # type: ignore[misc]
        def level(self, index: int, state: State, features: State | None, rate: Tensor) -> Level:
            return super().level(index, state, features, rate[:1].expand(len(rate)))  # type: ignore[no-any-return]

    class Normalises(Tiny):  # type: ignore[misc]
        def reconstruct(self, state: State, rate: Tensor) -> Tensor:
            image = super().reconstruct(state, rate)
            return image - image.mean(0, keepdim=True) + 0.5  # type: ignore[no-any-return]

    refused(FirstRate, "batch", r"level\(0\): posterior.mean depends on what else is in the batch")
    refused(Normalises, "batch", "the image depends on what else is in the batch")


def test_reach() -> None:
    class Short(Tiny):  # type: ignore[misc]
        reach = 8

    class Global(Tiny):  # type: ignore[misc]
        def reconstruct(self, state: State, rate: Tensor) -> Tensor:
            mean = state[0].mean((2, 3), keepdim=True)
            return super().reconstruct((state[0] - mean,), rate)  # type: ignore[no-any-return]

    refused(Short, "reach", r"of level\(1\) depends on more than 8 pixels around it")
    refused(Global, "reach", "the image depends on more than 32 pixels around it")


def test_sorting() -> None:
    class Shuffles(Tiny):  # type: ignore[misc]
        def sort_channels(self, x: Tensor) -> None:
            self.adds[0].weight.copy_(self.adds[0].weight.flip(1))

    refused(Shuffles, "sort_channels", "changes what the network computes")


# -- training ---------------------------------------------------------------------------------


def changed_pass(change: Any) -> Any:
    """Tiny, with what its training pass returns changed."""

    class Changed(Tiny):  # type: ignore[misc]
        def training_pass(self, x: Tensor, rate: Tensor) -> Any:
            return change(super().training_pass(x, rate))

    return Changed


def test_training_pass() -> None:
    def bits(change: Any) -> Any:
        return changed_pass(
            lambda p: TrainingPass(p.x_hat, {name: change(value) for name, value in p.bits.items()})
        )

    def fails(found: TrainingPass) -> TrainingPass:
        raise ZeroDivisionError("bits")

    where = "training pass"
    refused(changed_pass(fails), where, r"it raised ZeroDivisionError \(bits\)")
    refused(changed_pass(tuple), where, "must return a TrainingPass with bits")
    refused(changed_pass(lambda p: p._replace(bits={})), where, "a TrainingPass with bits")
    refused(
        changed_pass(lambda p: p._replace(x_hat=p.x_hat[:, :1])),
        where,
        r"x_hat has shape \(3, 1, 128, 128\), not \(3, 3, 128, 128\)",
    )
    refused(changed_pass(lambda p: p._replace(x_hat=p.x_hat / 0)), where, r"x_hat: \d+ are NaN")
    refused(bits(Tensor.sum), where, r"bits of 'level2' have shape \(\), not \(3,\)")
    refused(bits(lambda b: b * torch.inf), where, "bits of 'level2': 3 are NaN or infinite")
    refused(bits(Tensor.neg), where, r"'level2' has -\d.* bits")
    refused(bits(lambda b: b / 8), where, r"'level2' has .* bits in it, but .* on the way")
    renamed = changed_pass(lambda p: p._replace(bits=dict(zip("ab", p.bits.values(), strict=True))))
    refused(renamed, where, r"it has bits of \['a', 'b'\], not of \['level2', 'level1'\]")


class Unused(Tiny):  # type: ignore[misc]
    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.unused = nn.Linear(2, 3)


def test_gradients() -> None:
    refused(Unused, "gradients", "none reach unused.weight, unused.bias$")
    report = check_entropy_model(Unused, SMALL, idle=["unused."], plugins=PLUGINS, damaged=8)
    assert "gradients" in report.checks
    detached = changed_pass(
        lambda p: TrainingPass(p.x_hat.detach(), {k: b.detach() for k, b in p.bits.items()})
    )
    refused(detached, "gradients", "there are none")
