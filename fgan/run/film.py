"""The pictures of a run as one animated GIF."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from fgan.data.files import replacing
from fgan.run.samples import saved_pictures

_FRAME, _LAST = 250, 2000  # milliseconds that a frame is shown, and the last one
_LINE = 18  # pixels above each picture, for the round


def save_film(pictures: Path, path: Path) -> int:
    """Write the pictures of a run's folder `samples/` as an animated GIF; returns how many.

    They show the same latents after each checkpoint, in the order of the rounds.

    Raises ValueError where there are none, or one cannot be read.
    """
    found = saved_pictures(pictures)
    if not found:
        raise ValueError(f"there are no pictures round-NNNNNN.png in {pictures}")
    opened = {done: _opened(found[done]) for done in sorted(found)}
    size = tuple(max(sides) for sides in zip(*(p.size for p in opened.values()), strict=True))
    first, *rest = [_frame(picture, done, size) for done, picture in opened.items()]
    durations = [_FRAME] * len(rest) + [_LAST]
    with replacing(path) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=durations,
            loop=0,
            disposal=1,
        )
    return len(opened)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def _frame(picture: Image.Image, done: int, size: tuple[int, ...]) -> Image.Image:
    page = Image.new("RGB", (size[0], size[1] + _LINE), (255, 255, 255))
    page.paste(picture, (0, _LINE))
    place = (4, _LINE / 2)
    font = ImageFont.load_default(12)
    ImageDraw.Draw(page).text(place, f"round {done}", fill=(40, 40, 40), font=font, anchor="lm")
    return page.quantize(256)
