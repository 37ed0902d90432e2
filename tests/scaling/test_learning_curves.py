from kunlun_jax.scaling.learning_curves import learning_curve


def test_a_curve_has_a_point_for_every_line_of_training():
    lines = [
        {"step": 10, "train/normalized_entropy": 0.9},
        {"step": 10, "val/normalized_entropy": 0.7},
        {"step": 20, "train/normalized_entropy": 0.8},
    ]
    assert learning_curve(lines, 32) == {
        "examples": [320, 640],
        "normalized_entropy": [0.9, 0.8],
    }
