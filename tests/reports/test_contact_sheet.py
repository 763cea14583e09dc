import io

import matplotlib.image
import numpy as np
import pytest

from anyorder.errors import ConfigError, UserError
from anyorder.reports.contact_sheet import GAP_PX, LABEL_PX, contact_sheet, read_strip
from tests.reports.fake_runs import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("films") / "film.mp4", frames=12, fps=10)


def test_frames_are_spread_over_the_film(video):
    strip = read_strip(video, "run", frames=4)
    assert strip.frames.shape == (4, 48, 64, 3)
    assert strip.times_s == pytest.approx((0.0, 0.4, 0.7, 1.1))
    levels = strip.frames.mean((1, 2, 3))
    assert np.allclose(levels, [0, 255 * 4 / 11, 255 * 7 / 11, 255], atol=8)


def test_size(video):
    strips = [read_strip(video, label, frames=5) for label in ("a", "$b_ & <c>$")]
    picture = matplotlib.image.imread(io.BytesIO(contact_sheet(strips, frame_width_px=100)))
    height = 2 * (75 + LABEL_PX + GAP_PX) + GAP_PX
    assert picture.shape[:2] == (height, 5 * (100 + GAP_PX) + GAP_PX)
    # The first frame is black, the last white.
    row = LABEL_PX + GAP_PX + 55
    assert picture[row, GAP_PX + 20, :3].max() < 0.1
    assert picture[row, -GAP_PX - 20, :3].min() > 0.9


def test_a_short_film_repeats_frames(tmp_path):
    strip = read_strip(write_video(tmp_path / "short.mp4", frames=2), "run", frames=5)
    assert len(strip.frames) == 5


def test_errors(tmp_path, video):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    for path in (broken, tmp_path / "missing.mp4"):
        with pytest.raises(UserError, match="video: "):
            read_strip(path, "run")
    with pytest.raises(ConfigError, match="frames"):
        read_strip(video, "run", frames=0)
    with pytest.raises(ConfigError, match="strips"):
        contact_sheet([])
