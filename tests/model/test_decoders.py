import numpy as np
import pytest
from detections import CELLS, CLASSES, ENCODERS, SIZE, Scene, scene
from hypothesis import given
from hypothesis import strategies as st

from qbench.errors import ModelError, UsageError
from qbench.model.decoders import DECODERS, choose_decoder

ONE = scene((8, 8, 24, 40, 2, 0.9))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        x, y = draw(st.floats(0, SIZE[1] - 4)), draw(st.floats(0, SIZE[0] - 4))
        width, height = draw(st.floats(2, SIZE[1])), draw(st.floats(2, SIZE[0]))
        label, score = draw(st.integers(0, CLASSES - 1)), draw(st.floats(0.1, 0.9))
        rows.append((x, y, x + width, y + height, label, score))
    return scene(*rows)


@pytest.mark.parametrize("name", DECODERS)
@given(wanted=scenes())
def test_a_decoder_finds_the_boxes_that_were_encoded(name: str, wanted: Scene) -> None:
    found = DECODERS[name](ENCODERS[name](wanted), SIZE)
    count = len(wanted.boxes)
    np.testing.assert_allclose(found.boxes[:count], wanted.boxes, atol=1e-3)
    if found.labels is None:
        assert found.classes == CLASSES
        np.testing.assert_allclose(found.scores[:count], wanted.class_scores, atol=1e-4)
    else:
        assert found.classes is None
        assert found.labels[:count].tolist() == wanted.classes.tolist()
        np.testing.assert_allclose(found.scores[:count, 0], wanted.scores, atol=1e-4)
    assert found.scores[count:].max() < 1e-4


@pytest.mark.parametrize("name", ["yolov8", "yolov5", "yolox", "end2end"])
def test_auto_tells_the_decoder_from_the_shape(name: str) -> None:
    assert choose_decoder(ENCODERS[name](ONE), SIZE) == name


@pytest.mark.parametrize("name", ["ssd", "detr", "rtdetr"])
def test_auto_cannot_tell_boxes_and_scores_apart(name: str) -> None:
    with pytest.raises(UsageError, match=r"outputs \[1, 50, .\], .* do not say how to read them"):
        choose_decoder(ENCODERS[name](ONE), SIZE)


def test_auto_takes_no_decoded_yolox_for_a_raw_one() -> None:
    decoded = np.zeros((CELLS, 5 + CLASSES), np.float32)
    decoded[:, 0] = np.linspace(0, SIZE[1], CELLS)
    with pytest.raises(UsageError, match="fits no decoder or several; choose --decoder yolov8"):
        choose_decoder([decoded], SIZE)


@pytest.mark.parametrize("shape", [(77, 85), (10,), (3, 8, 8)])
def test_auto_finds_nothing_that_fits(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="choose --decoder yolov8, yolov5, yolox, end2end, ssd"):
        choose_decoder([np.zeros(shape, np.float32)], SIZE)


@pytest.mark.parametrize("name", ["yolov8", "yolov5", "yolox", "end2end"])
@pytest.mark.parametrize("shape", [(4, 4), (10,)])
def test_an_output_of_another_shape(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=rf"decoder '{name}' reads \[.*\], but the first output"):
        DECODERS[name]([np.zeros(shape, np.float32)], SIZE)


@pytest.mark.parametrize("name", ["ssd", "detr", "rtdetr"])
def test_outputs_that_are_not_boxes_and_scores(name: str) -> None:
    with pytest.raises(ModelError, match=rf"decoder '{name}' reads boxes \[n, 4\] and scores"):
        DECODERS[name]([np.zeros((5, 4)), np.zeros((6, 3))], SIZE)


def test_yolox_of_another_input_size() -> None:
    with pytest.raises(
        ModelError, match=f"expects {CELLS} cells for an input of 64x96, not 7; cho"
    ):
        DECODERS["yolox"]([np.zeros((7, 85))], SIZE)


def test_yolox_with_a_fourth_stride() -> None:
    found = DECODERS["yolox"]([np.zeros((64 + 16 + 4 + 1, 85))], (64, 64))
    assert found.boxes[-1].tolist() == [-32, -32, 32, 32]


def test_a_ruined_yolox_does_not_overflow() -> None:
    output = np.full((CELLS, 6), 1e4, np.float32)
    assert np.isfinite(DECODERS["yolox"]([output], SIZE).boxes).all()


def test_ssd_takes_logits_and_probabilities_alike() -> None:
    scores, boxes = ENCODERS["ssd"](ONE)
    from_logits = DECODERS["ssd"]([np.log(scores + 1e-9), boxes], SIZE)
    np.testing.assert_allclose(
        from_logits.scores, DECODERS["ssd"]([scores, boxes], SIZE).scores, atol=1e-6
    )
