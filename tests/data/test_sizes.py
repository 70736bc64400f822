"""Sizes that come again."""

import pytest
import torch

from seqrec_cli.data.sizes import common_size, exact_sizes, padded_length

CPU = torch.device("cpu")


@pytest.mark.parametrize(("size", "common"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_a_size_grows_to_the_next_multiple_on_a_cpu(size: int, common: int) -> None:
    assert common_size(size, 64, CPU) == common
    assert common_size(size, 64, torch.device("cuda")) == size


def test_what_is_measured_on_a_few_rows_keeps_its_size() -> None:
    with exact_sizes():
        assert common_size(65, 64, CPU) == 65
    assert common_size(65, 64, CPU) == 128


@pytest.mark.parametrize(("longest", "width"), [(0, 8), (8, 8), (9, 16), (17, 20), (20, 20)])
def test_a_part_is_no_wider_than_its_batch(longest: int, width: int) -> None:
    assert padded_length(longest, 20) == width
