import copy
import hashlib
import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.training import manifest as manifests
from kunlun_jax.training.manifest import (
    ManifestError,
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
        node = changed
        for key in parents:
            node = node[key]
        node[last] = value
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

    def test_a_checksum_is_the_sum_of_those_of_any_parts(self):
        rng = np.random.default_rng(0)
        whole = rng.standard_normal((7, 5, 3)).astype(np.float32)
        cuts = [sorted({0, size, *rng.integers(0, size, 2).tolist()}) for size in whole.shape]
        total = 0
        for corner in itertools.product(*(range(len(cut) - 1) for cut in cuts)):
            edges = [(cut[i], cut[i + 1]) for cut, i in zip(cuts, corner, strict=True)]
            part = whole[tuple(slice(*edge) for edge in edges)]
            total += manifests._sum(part, [start for start, _ in edges])
        assert total % 2**64 == manifests._sum(whole, [0, 0, 0])

    def test_a_checksum_is_that_of_the_formula(self, monkeypatch):
        monkeypatch.setattr(manifests, "_BLOCK", 4)
        values = np.arange(12, dtype=np.float32).reshape(4, 3)
        rows, columns = (
            [int(w) for w in manifests._weights(dimension, 0, size)]
            for dimension, size in enumerate(values.shape)
        )
        assert all(w % 2 for w in [*rows, *columns])
        bits = values.view(np.uint32)
        want = sum(int(bits[i, j]) * rows[i] * columns[j] for i in range(4) for j in range(3))
        assert manifests._sum(values, [0, 0]) == want % 2**64

    def test_finds_rows_that_changed_places(self, manifest):
        kernel = STATE["kernel"][::-1]
        with pytest.raises(ManifestError, match=r"^kernel is damaged"):
            verify_leaves({**STATE, "kernel": kernel}, manifest)

    def test_a_manifest_with_sha256_is_still_verified(self, manifest):
        for name, leaf in STATE.items():
            digest = hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
            manifest["leaves"][name] = {"type": "any", "sha256": digest}
        verify_leaves(STATE, manifest)
        with pytest.raises(ManifestError, match=r"^step is damaged: expected sha256"):
            verify_leaves({**STATE, "step": jnp.asarray(8, jnp.int32)}, manifest)


def test_layout_is_dtype_and_shape(manifest):
    assert layout(STATE) == {
        "half": "bfloat16[4]",
        "kernel": "float32[2,3]",
        "nothing": "float32[0,3]",
        "step": "int32[]",
    }
    assert saved_layout(manifest) == layout(STATE)
