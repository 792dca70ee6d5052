"""Weights files: what packing changes, one fingerprint for one model, what damage says."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from toolkit.errors import InputError
from toolkit.format.tensors import COLUMNS, ROWS, SLICES, pack, unpack
from toolkit.format.weights import fingerprint, load_weights, weights_of_fingerprint, write_weights


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    kernel=st.sampled_from([1, 3, 5]),
    magnitude=st.floats(-6, 3),
    silent=st.booleans(),
)
def test_channels_of_a_kernel_keep_their_precision(seed, kernel, magnitude, silent):
    """Whatever channels of a kernel are multiplied with, the error is half a step of the largest
    that an element of its row and column could be."""
    torch.manual_seed(seed)
    spread = torch.rand(64, 1, 1, 1) * torch.rand(1, 120, 1, 1)
    weight = torch.randn(64, 120, kernel, kernel) * 10**magnitude * spread
    weight = torch.cat([weight] * (2 if kernel == 1 else 1))
    if silent:
        weight[3] = 0
        weight[:, 5] = 0
    packed = pack({"conv.weight": weight})
    assert packed["conv.weight"].dtype == torch.int8
    size = sum(tensor.numel() * tensor.element_size() for tensor in packed.values())
    assert size == weight.numel() + 2 * (len(weight) + 120)
    loaded = unpack(packed)["conv.weight"]
    rows, columns = packed["conv.weight" + ROWS].float(), packed["conv.weight" + COLUMNS].float()
    # half a step, and what float16's last place of the scale makes at the far end of 127 steps
    allowed = rows * columns * 0.5 * (1 + 127 * 2**-9) + columns * 127 * 2**-24
    assert bool(((loaded - weight).abs() <= allowed).all())
    assert bool((loaded[weight == 0] == 0).all())
    if magnitude > -3:  # above float16's smallest steps
        largest = weight.abs().amax((2, 3), keepdim=True)
        assert float((loaded - weight).abs().max() / largest.max()) < 0.01


def test_what_is_small_is_kept_and_the_rest_is_float16():
    torch.manual_seed(0)
    state = {
        "bias": torch.randn(192),
        "first.weight": torch.randn(64, 3, 5, 5),
        "gamma": torch.randn(192, 192),
        "pointwise.weight": torch.randn(96, 48, 1, 1),
        "count": torch.arange(9),
    }
    loaded = unpack(pack(state))
    assert loaded.keys() == state.keys()
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    assert torch.equal(loaded["bias"], state["bias"])
    assert torch.equal(loaded["count"], state["count"].float())
    for key in ("first.weight", "gamma", "pointwise.weight"):
        assert torch.equal(loaded[key], state[key].half().float())


def test_scales_of_slices_are_read_as_before():
    levels = torch.arange(-4, 5, dtype=torch.int8).reshape(1, 1, 3, 3).expand(2, 3, 3, 3)
    scales = torch.tensor([[1.0, 2, 4], [8, 16, 32]])[:, :, None, None]
    loaded = unpack({"conv.weight": levels, "conv.weight" + SLICES: scales.half()})
    assert torch.equal(loaded["conv.weight"], levels * scales)


@pytest.mark.parametrize("kind", [ROWS, COLUMNS, SLICES])
@pytest.mark.parametrize("name", ["nothing", "conv.weight", "bias"])
def test_a_scale_that_fits_no_kernel_is_told(tmp_path, name, kind):
    path = tmp_path / "odd.safetensors"
    packed = pack({"conv.weight": torch.randn(64, 120, 5, 5), "bias": torch.randn(4)})
    tensors = {**packed, name + kind: torch.ones(2, 2, 1, 1)}
    metadata = {"model": "pln", "options": "{}", "objective": json.dumps({})}
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(InputError, match="fits no kernel"):
        load_weights(path)


ROOT = Path(__file__).parents[2]


def state(seed=0):
    torch.manual_seed(seed)
    return {"b": torch.randn(64, 64, 5, 5), "a": torch.randn(3), "c.gain": torch.randn(4096)}


def rewritten(data, order, **changes):
    """The same safetensors file with metadata and tensors in another order."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = {**header.pop("__metadata__"), **changes}
    names = sorted(header, reverse=order)
    body, entries = b"", {"__metadata__": dict(sorted(metadata.items(), reverse=order))}
    for name in names:
        begin, end = header[name]["data_offsets"]
        entries[name] = {**header[name], "data_offsets": [len(body), len(body) + end - begin]}
        body += data[start + begin : start + end]
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def test_one_model_is_one_file_wherever_it_is_exported(tmp_path):
    """In processes of their own: the order of a hash map is another in each."""
    program = (
        "import sys, torch\nfrom pathlib import Path\n"
        "from toolkit.format.weights import write_weights\n"
        "torch.manual_seed(0)\n"
        "state = {'b': torch.randn(64, 64, 5, 5), 'a': torch.randn(3)}\n"
        "if len(sys.argv) > 2: state = dict(reversed(state.items()))\n"
        "options = {'depth': 3, 'widths': [1, 2]}\n"
        "if len(sys.argv) > 2: options = dict(reversed(options.items()))\n"
        "write_weights(Path(sys.argv[1]), 'pln', options, {'x': 1, 'y': 2}, state)"
    )
    for name, more in (("one", []), ("two", ["reversed"])):
        subprocess.run([sys.executable, "-c", program, tmp_path / name, *more], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_fingerprint_is_of_tensors_and_architecture(tmp_path):
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_weights(path, "pln", {"depth": 3}, {"distortion": "mse"}, state())
    whole = load_weights(path)
    assert (whole.model, whole.options, whole.objective) == (
        "pln", {"depth": 3}, {"distortion": "mse"},
    )  # fmt: skip
    assert torch.equal(whole.tensors["a"], state()["a"])
    for order in (False, True):
        other.write_bytes(rewritten(path.read_bytes(), order))
        assert fingerprint(other) == whole.fingerprint == fingerprint(path)
        load_weights.cache_clear()
        assert torch.equal(load_weights(other).tensors["b"], whole.tensors["b"])
    other.write_bytes(rewritten(path.read_bytes(), False, objective="{}"))
    assert fingerprint(other) == whole.fingerprint
    assert weights_of_fingerprint(whole.fingerprint, tmp_path) == path
    for change in ({"model": "gamma"}, {"options": '{"depth": 4}'}):
        other.write_bytes(rewritten(path.read_bytes(), False, **change))
        assert fingerprint(other) != whole.fingerprint
    write_weights(other, "pln", {"depth": 3}, {"distortion": "mse"}, state(1))
    assert fingerprint(other) != whole.fingerprint


@pytest.mark.parametrize("folder", ["pln", "hyperprior", "latents"])
def test_weights_of_the_first_version_keep_their_fingerprint(folder):
    """Released coded files name them by it."""
    path = ROOT / "tests" / "golden" / folder / "weights.safetensors"
    data = path.read_bytes()
    assert b'"format"' not in data[:4096]
    assert fingerprint(path) == hashlib.sha256(data).digest()[:8]


@pytest.mark.parametrize(
    "data", [b"", b"short", bytes(8), b"\xff" * 40, (2).to_bytes(8, "little") + b"[]",
             (100_000).to_bytes(8, "little") + b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_weights_file_is_told(tmp_path, data):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"bad.safetensors: not a weights file[^\n]*$"):
        load_weights(path)


def test_metadata_that_is_none_is_told(tmp_path):
    path = tmp_path / "bad.safetensors"
    for options in ("[1]", "{", "[" * 100_000):
        metadata = {"model": "pln", "format": "2", "options": options, "objective": "{}"}
        path.write_bytes(save({"a": torch.zeros(2)}, metadata))
        load_weights.cache_clear()
        with pytest.raises(InputError, match="not a weights file"):
            load_weights(path)
