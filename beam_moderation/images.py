"""Bytes to frames: what format it is, whether it may be decoded, which pictures of it are judged.

An image is taken for what its first bytes say, never for its name. Its structure is walked before
Pillow sees a byte of it (`containers`), so limits hold before memory is taken, and Pillow's
`n_frames`, which decodes or loops for seconds on a hostile file, is never asked of a GIF or TIFF.

Memory: one thread that decodes needs at most `max_pixels * BYTES_PER_PIXEL` beside three times
the bytes of the file; as many times that as there are threads.
"""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence

from PIL import Image, ImageColor

from beam_moderation import containers, errors, libtiff, pixels, tiff_directories

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""The formats that can be decoded, by Pillow's names."""

BYTES_PER_PIXEL = 28
"""What decoding takes at most for each pixel of the picture, from the decoder's own buffers to the
RGB frame. Measured: JPEG 8 to 12, PNG 7 to 21, GIF 17, TIFF 18, WebP 22, AVIF 22 at 8 bits."""

_JUDGED_FRAME_EFFORT = 2
"""Of making a further frame RGB on two backdrops, compared with decoding it; measured at 25 ns a
pixel, against 13."""

_LONG_SIDE_PX = 400
_LONG_RATIO = 2.5
"""What is longer and narrower is cut into tiles (help.aliyun.com, image asynchronous detection,
parameter `interval`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost at most. A limit that is passed is an error, never a partial verdict.

    Raises:
      ConfigurationError: a limit makes no sense.
    """

    max_pixels: int = 50_000_000
    """Pixels of one frame."""
    max_side: int = 65_535
    """Pixels of its longer side: JPEG's own limit, for long pictures are cut into tiles."""
    max_total_pixels: int = 200_000_000
    """Pixels over all frames that have to be decoded: those between the sampled ones count too, and
    each further one that is judged counts three times, for what is done to it."""
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_side", "max_total_pixels"):
            _check_positive(name, getattr(self, name))
        if Image.MAX_IMAGE_PIXELS is not None and self.max_pixels > Image.MAX_IMAGE_PIXELS:
            most = Image.MAX_IMAGE_PIXELS
            raise errors.ConfigurationError(
                f"max_pixels must not exceed PIL.Image.MAX_IMAGE_PIXELS ({most}): {self.max_pixels}"
            )
        if self.max_total_pixels < self.max_pixels:
            raise errors.ConfigurationError(
                f"max_total_pixels must not be below max_pixels: {self.max_total_pixels}"
            )
        if not self.formats or not set(self.formats) <= set(FORMATS):
            raise errors.ConfigurationError(f"formats must be among {', '.join(FORMATS)}")

    def check_size(self, width: int, height: int) -> None:
        """Refuses a frame that is too large.

        Raises:
          ImageTooManyPixels: it is.
        """
        if max(width, height) > self.max_side:
            raise errors.ImageTooManyPixels(f"{width} x {height}: a side above {self.max_side}")
        if width * height > self.max_pixels:
            raise errors.ImageTooManyPixels(f"{width} x {height}: above {self.max_pixels} pixels")


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """Which pictures of an animation or of a long image are judged.

    Raises:
      ConfigurationError: a value makes no sense.
    """

    interval: int = 1
    """Every how many pictures one is judged, from the first on."""
    max_frames: int = 10
    """How many are judged at most; where more would be left out, the interval grows."""
    backdrops: tuple[str, ...] = ("white", "black")
    """The colours of page (CSS names or hex) on which a picture that is not opaque is judged."""

    def __post_init__(self) -> None:
        _check_positive("interval", self.interval)
        _check_positive("max_frames", self.max_frames)
        if isinstance(self.backdrops, str) or not self.backdrops:
            raise errors.ConfigurationError("backdrops must be a sequence of one colour or more")
        for colour in self.backdrops:
            try:
                ImageColor.getrgb(colour)
            except (ValueError, TypeError, AttributeError) as error:
                raise errors.ConfigurationError(f"no such colour: {colour!r}") from error


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise errors.ConfigurationError(f"{name} must be a whole number above 0: {value!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A picture to be judged: upright RGB, a whole frame or a tile of one.

    `index` counts from 0 to `frames_total`: all tiles of the first frame, from the top down or from
    left to right, then those of the second. A picture that is not opaque comes once for each
    backdrop, each time with the same index.
    """

    index: int
    image: Image.Image


def sampled_indices(total: int, sampling: Sampling) -> Sequence[int]:
    """Which of `total` pictures are judged, ascending and without gaps at either end.

    Every `interval`-th from the first. Where `interval * max_frames` falls short of the total the
    interval becomes `total / max_frames`, as the vendors define it: a fraction, whose multiples
    are rounded down, so that the sample spreads over the whole and has `max_frames` pictures.
    """
    if sampling.interval * sampling.max_frames >= total:
        return range(0, total, sampling.interval)
    return [position * total // sampling.max_frames for position in range(sampling.max_frames)]


def tile_count(width: int, height: int) -> int:
    """Into how many tiles a picture is cut: 1 unless it is long and narrow.

    Above 400 pixels and a ratio of 2.5, as many as the whole part of the ratio says.
    """
    shorter, longer = sorted((width, height))
    if longer <= _LONG_SIDE_PX or longer <= _LONG_RATIO * shorter:
        return 1
    return longer // shorter


def tile_box(width: int, height: int, tiles: int, index: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of one of the equal tiles along a picture's longer side."""
    longer = max(width, height)
    start, end = index * longer // tiles, (index + 1) * longer // tiles
    return (0, start, width, end) if height > width else (start, 0, end, height)


def _plan(frames: int, tiles: int, sampling: Sampling) -> dict[int, list[int]]:
    """The sampled tiles of each sampled frame.

    Where an interval is a multiple of the number of tiles, it would meet the same tile in every
    frame, and an animation could hide the rest; so each sampled frame goes on by one tile.
    """
    plan: dict[int, list[int]] = {}
    for index in sampled_indices(frames * tiles, sampling):
        frame, tile = divmod(index, tiles)
        chosen = plan.setdefault(frame, [])
        chosen.append((tile + len(plan) - 1) % tiles)
    return plan


class OpenedImage:
    """An image whose structure has been read, and none of its pixels.

    `width` and `height` are those of the first frame as stored: an orientation that turns it is
    not applied to them. `frame_count` counts frames, `frames_total` frames times tiles.
    """

    def __init__(
        self,
        image_format: str,
        container: containers.Container,
        image: Image.Image,
        limits: ImageLimits,
    ) -> None:
        self.format = image_format
        self.width, self.height = container.size
        self.frame_count = container.frames
        self._tiles = tile_count(self.width, self.height)
        self.frames_total = self.frame_count * self._tiles
        self._container, self._limits = container, limits
        self._image: Image.Image | None = image
        self._orientation = container.orientation

    def frames(
        self, sampling: Sampling, sufficient_size: tuple[int, int] | None = None
    ) -> Iterator[Frame]:
        """The sampled frames and tiles, in order, one in memory at a time.

        Args:
          sampling: which ones.
          sufficient_size: width and height, upright, that are enough: a JPEG may be decoded to less
            than its stored size, by a power of two, and each frame or tile has at least these.

        Raises:
          ImageBroken: the decoder gave up; also after some frames.
          OutOfMemory: there is no memory for them.
          ImageTooManyPixels: what has to be decoded for them passes a limit.
        """
        return _guarded(self._frames(sampling, sufficient_size))

    def first_frame(self, backdrop: str) -> Image.Image:
        """The first frame at its full size, not cut into tiles: upright RGB.

        Args:
          backdrop: the colour behind it where it is not opaque.

        Raises:
          ImageBroken: the decoder gave up.
          OutOfMemory: there is no memory for it.
          ImageTooManyPixels: decoding it passes a limit.
        """
        plan = {0: [0]}
        with _decoder_errors():
            self._check_work(plan)
            _, picture = next(self._decoded(plan, None))
            return next(pixels.upright_rgb(picture, self._orientation, (backdrop,)))

    def _frames(
        self, sampling: Sampling, sufficient_size: tuple[int, int] | None
    ) -> Iterator[Frame]:
        plan = _plan(self.frame_count, self._tiles, sampling)
        self._check_work(plan)
        for number, picture in self._decoded(plan, sufficient_size):
            for tile in plan[number]:
                piece = picture if self._tiles == 1 else picture.crop(self._box(picture, tile))
                for rgb in pixels.upright_rgb(piece, self._orientation, sampling.backdrops):
                    # An animation's next frame is drawn over the one before.
                    shared = rgb is picture and self.frame_count > 1
                    yield Frame(number * self._tiles + tile, rgb.copy() if shared else rgb)
                    del rgb

    def _check_work(self, plan: dict[int, list[int]]) -> None:
        """Refuses what takes too long to decode and to judge."""
        if self._container.pages:
            sizes = [self._container.pages[number].size for number in plan]
            decoded = sum(width * height for width, height in sizes)
        else:
            # An animation's frame needs all those before it.
            decoded = (max(plan) + 1) * self.width * self.height
        work = decoded * self._container.effort
        work += (len(plan) - 1) * self.width * self.height * _JUDGED_FRAME_EFFORT
        if work > self._limits.max_total_pixels:
            raise errors.ImageTooManyPixels(
                f"work for {work:.0f} pixels, above {self._limits.max_total_pixels}"
            )

    def _decoded(
        self, plan: dict[int, list[int]], sufficient_size: tuple[int, int] | None
    ) -> Iterator[tuple[int, Image.Image]]:
        image, self._image = self._image, None
        image = image or _open(self.format, self._container.content, self._limits)
        for number in plan:
            if number and self._container.pages:
                image = self._page(number)
            else:
                image.seek(number)
            if sufficient_size:
                image.draft(None, self._draft_size(sufficient_size))
            image.load()
            yield number, image

    def _page(self, number: int) -> Image.Image:
        """A page of a TIFF, opened without going through those before it."""
        place = self._container.pages[number].position
        data = tiff_directories.with_first_page(self._container.content, place)
        return _open(self.format, data, self._limits)

    def _draft_size(self, sufficient_size: tuple[int, int]) -> tuple[int, int]:
        """The stored size that leaves each upright tile with the sufficient size."""
        width, height = sufficient_size
        if self._orientation >= 5:
            width, height = height, width
        if self.height > self.width:
            return width, height * self._tiles
        return width * self._tiles, height

    def _box(self, picture: Image.Image, tile: int) -> tuple[int, int, int, int]:
        """Where a tile of the upright picture is in the stored one."""
        width, height = picture.size
        backwards = (3, 4, 6, 7) if height > width else (2, 3, 7, 8)
        if self._orientation in backwards:
            tile = self._tiles - 1 - tile
        return tile_box(width, height, self._tiles, tile)


def open_image(data: bytes, limits: ImageLimits) -> OpenedImage:
    """Opens an image whose format and size are allowed; no pixel of it is decoded yet.

    Raises:
      ImageEmpty: there are no bytes.
      FormatUnsupported: the first bytes are of no allowed format; or a JPEG no browser shows.
      ImageTooManyPixels: a frame of it is too large.
      ImageBroken: it ends early, or its structure makes no sense.
    """
    image_format = containers.format_of(data)
    if image_format not in limits.formats:
        raise errors.FormatUnsupported(f"{image_format} is not among the formats allowed")
    with _decoder_errors():
        container = containers.read(image_format, data)
        limits.check_size(*container.size)
        if container.short:
            raise errors.ImageBroken("fewer bytes than its pixels can be packed into")
        image = _open(image_format, container.content, limits)
        if image_format == "AVIF":
            container = _as_counted(container, image)
    return OpenedImage(image_format, container, image, limits)


def _as_counted(container: containers.Container, image: Image.Image) -> containers.Container:
    """What AVIF's library found when it opened the file; `n_frames` is a plain number there."""
    return container._replace(
        size=image.size,
        frames=getattr(image, "n_frames", 1),
        orientation=tiff_directories.orientation(image.info.get("exif", b"")),
    )


def frames(
    data: bytes,
    limits: ImageLimits,
    sampling: Sampling,
    sufficient_size: tuple[int, int] | None = None,
) -> Iterator[Frame]:
    """The sampled frames and tiles of an image; see `open_image` and `OpenedImage.frames`."""
    return open_image(data, limits).frames(sampling, sufficient_size)


def _open(image_format: str, data: bytes, limits: ImageLimits) -> Image.Image:
    if image_format == "TIFF":
        libtiff.silence()
    image = Image.open(io.BytesIO(data), formats=(image_format,))
    limits.check_size(*image.size)
    return image


@contextlib.contextmanager
def _decoder_errors() -> Iterator[None]:
    """Whatever reading or decoding raises, of any class, as an `ImageError`."""
    try:
        yield
    except errors.ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise errors.ImageTooManyPixels(_described(error)) from error
    except MemoryError as error:
        raise errors.OutOfMemory(_described(error)) from error
    except Exception as error:
        raise errors.ImageBroken(_described(error)) from error


def _described(error: Exception) -> str:
    """The class of an exception and what it says, less addresses and control characters."""
    said = re.sub(r"<[^>]*>", "", str(error))
    said = " ".join("".join(c if c.isprintable() else " " for c in said[:200]).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _guarded(pictures: Iterator[Frame]) -> Iterator[Frame]:
    """The same frames; what a decoder raises comes as an `ImageError`."""
    while True:
        with _decoder_errors():
            frame = next(pictures, None)
        if frame is None:
            return
        yield frame
        del frame
