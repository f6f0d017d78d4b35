"""Ranks whose weights have parted are found, on all of them."""

import rank_pool
from rank_pool import RankPool


def test_equal_weights_pass(two_ranks: RankPool):
    assert two_ranks.run(rank_pool.require_equal, None) == ["", ""]


def test_one_bit_on_one_rank_is_told_on_both_with_the_parameters_name(two_ranks: RankPool):
    told = two_ranks.run(rank_pool.require_equal, 1)
    assert told[0] == told[1]
    assert told[0].startswith("after epoch 3, 1.weight of rank 1 is not that of rank 0")
