import copy
import json

import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.training.manifest import (
    ManifestError,
    first_difference,
    layout,
    make_manifest,
    saved_layout,
    verify_leaves,
    verify_manifest,
)

STATE = {
    "kernel": jnp.arange(6.0).reshape(2, 3),
    "half": jnp.ones(4, jnp.bfloat16),
    "step": jnp.asarray(7, jnp.int32),
    "nothing": jnp.zeros((0, 3)),
}


@pytest.fixture
def manifest():
    """A manifest as it is read back from a file."""
    made = make_manifest(
        STATE,
        identity={"seed": 0},
        position={"next_index": 7},
        metrics={"normalized_entropy": 0.8, "auc_roc": float("nan")},
    )
    return json.loads(json.dumps(made))


class TestVerifyManifest:
    def test_accepts_what_was_made(self, manifest):
        assert verify_manifest(manifest) is manifest

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("position", "next_index"), 5),
            (("metrics", "normalized_entropy"), 0.0),
            (("identity", "seed"), 1),
            (("leaves", "step", "type"), "int64[]"),
            (("sha256",), "0" * 64),
        ],
    )
    def test_refuses_a_change_anywhere(self, manifest, path, value):
        changed = copy.deepcopy(manifest)
        *parents, last = path
        place = changed
        for key in parents:
            place = place[key]
        place[last] = value
        with pytest.raises(ManifestError, match=r"manifest is damaged: expected SHA-256 .*, got"):
            verify_manifest(changed)

    @pytest.mark.parametrize("other", [None, [], {}, {"leaves": {}}])
    def test_refuses_something_else(self, other):
        with pytest.raises(ManifestError, match="expected a mapping with its own checksum"):
            verify_manifest(other)


class TestVerifyLeaves:
    def test_accepts_the_state(self, manifest):
        verify_leaves(STATE, manifest)

    @pytest.mark.parametrize("name", ["kernel", "half", "step"])
    @pytest.mark.parametrize("bit", [0, 7, 15])
    def test_finds_every_flipped_bit(self, manifest, name, bit):
        content = bytearray(np.asarray(STATE[name]).tobytes())
        content[bit // 8] ^= 1 << bit % 8
        leaf = np.frombuffer(bytes(content), STATE[name].dtype).reshape(STATE[name].shape)
        with pytest.raises(ManifestError, match=f"^{name} is damaged"):
            verify_leaves({**STATE, name: leaf}, manifest)


def test_layout_is_dtype_and_shape(manifest):
    assert layout(STATE) == {
        "half": "bfloat16[4]",
        "kernel": "float32[2,3]",
        "nothing": "float32[0,3]",
        "step": "int32[]",
    }
    assert saved_layout(manifest) == layout(STATE)


def test_first_difference_names_the_place():
    a = {"x": {"y": 1, "z": [1, 2]}, "w": "v"}
    assert first_difference(a, {"x": {"y": 1, "z": [1, 2]}, "w": "v"}) is None
    assert first_difference(a, {"x": {"y": 1, "z": [1, 3]}, "w": "v"}) == ("x.z", [1, 2], [1, 3])
    assert first_difference(a, {"x": {"y": 1}, "w": "v"}) == ("x.z", [1, 2], "nothing")
    assert first_difference({}, {"x": 1}) == ("x", "nothing", 1)
