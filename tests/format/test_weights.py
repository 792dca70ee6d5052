"""Weights files: what packing changes, and what a damaged file says."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from toolkit.errors import InputError
from toolkit.format.tensors import SCALE, pack, unpack
from toolkit.format.weights import load_weights


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    kernel=st.sampled_from([3, 5]),
    magnitude=st.floats(-6, 3),
    silent=st.booleans(),
)
def test_every_slice_of_a_large_kernel_keeps_its_precision(seed, kernel, magnitude, silent):
    torch.manual_seed(seed)
    weight = torch.randn(64, 120, kernel, kernel) * 10**magnitude * torch.rand(64, 120, 1, 1)
    if silent:
        weight[3] = 0
    packed = pack({"conv.weight": weight})
    assert packed["conv.weight"].dtype == torch.int8
    size = sum(tensor.numel() * tensor.element_size() for tensor in packed.values())
    assert size == weight.numel() * (1 + 2 / kernel**2)
    error = (unpack(packed)["conv.weight"] - weight).abs().amax((2, 3))
    largest = weight.abs().amax((2, 3))
    # half a step, and half of float16's last place of the scale at the far end of 127 steps
    assert bool((error <= largest * (0.5 / 127 + 2**-11) + 2**-24 * 127).all())


def test_what_is_small_is_kept_and_the_rest_is_float16():
    torch.manual_seed(0)
    state = {
        "bias": torch.randn(192),
        "first.weight": torch.randn(64, 3, 5, 5),
        "gamma": torch.randn(192, 192),
        "pointwise.weight": torch.randn(768, 192, 1, 1),
        "count": torch.arange(9),
    }
    loaded = unpack(pack(state))
    assert loaded.keys() == state.keys()
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    assert torch.equal(loaded["bias"], state["bias"])
    assert torch.equal(loaded["count"], state["count"].float())
    for key in ("first.weight", "gamma", "pointwise.weight"):
        assert torch.equal(loaded[key], state[key].half().float())


@pytest.mark.parametrize("odd", ["nothing" + SCALE, "conv.weight" + SCALE])
def test_a_scale_that_fits_no_kernel_is_told(tmp_path, odd):
    path = tmp_path / "odd.safetensors"
    tensors = {**pack({"conv.weight": torch.randn(64, 120, 5, 5)}), odd: torch.ones(2, 2, 1, 1)}
    metadata = {"model": "pln", "options": "{}", "objective": json.dumps({})}
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(InputError, match="fits no kernel"):
        load_weights(path)
