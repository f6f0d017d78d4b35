import edges


def test_the_default_upsampling_at_least_halves_the_bleeding_of_smooth_ones() -> None:
    found = edges.measure(1, 8, edges.LEAST_STEP)
    near = {name: errors[0] for name, errors in found.items()}
    elsewhere = {name: errors[1] for name, errors in found.items()}
    assert near["guided"] < 0.5 * min(near["bilinear"], near["bicubic"])
    assert near["guided"] < near["bilateral"]
    assert max(elsewhere.values()) < 0.3
