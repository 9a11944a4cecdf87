import numpy as np
import pytest

from s2svos_engines.letterbox import Letterbox, merge_masks

NETWORK = (256, 448)


@pytest.mark.parametrize("native", [(480, 854), (720, 1280), (64, 64), (640, 360), (99, 1001)])
def test_a_mask_comes_back_where_it_was(native: tuple[int, int]) -> None:
    letterbox = Letterbox.of(native, NETWORK)
    mask = np.zeros(native, np.uint8)
    rows, columns = native
    mask[rows // 4 : rows // 2, columns // 4 : columns // 2] = 255
    small = letterbox.resize(mask)
    assert small.shape == NETWORK
    labels = merge_masks(small[None], np.array([7], np.uint8), letterbox)
    assert labels.shape == native
    assert set(np.unique(labels)) == {0, 7}
    both, either = ((mask > 0) & (labels > 0)).sum(), ((mask > 0) | (labels > 0)).sum()
    assert both / either > 0.9


def test_wide_screen_is_stretched_and_portrait_is_padded() -> None:
    assert Letterbox.of((480, 854), NETWORK).content == NETWORK
    assert Letterbox.of((640, 360), NETWORK).content == (256, 144)


def test_merge_takes_the_most_probable_object_above_one_half() -> None:
    letterbox = Letterbox.of((1, 4), (1, 4))
    masks = np.array([[[200, 130, 100, 150]], [[100, 140, 127, 150]]], np.uint8)
    labels = merge_masks(masks, np.array([3, 9], np.uint8), letterbox)
    assert labels.tolist() == [[3, 9, 0, 3]]


def test_merge_of_nothing_is_background() -> None:
    labels = merge_masks(
        np.zeros((0, 1, 4), np.uint8), np.zeros(0, np.uint8), Letterbox.of((1, 4), (1, 4))
    )
    assert not labels.any()
