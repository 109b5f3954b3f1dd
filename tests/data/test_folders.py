"""Folders of pictures: what is read, how, and what is refused by the name of its file."""

import os
import socket
import struct
import time
import zlib

import pytest
import torch
from PIL import Image

from fgan.data import DataError, batches, fingerprint, folders, load
from fgan.data.picture_files import FORMATS, MOST_PIXELS, read_picture

TOP, REST = (250, 10, 20), (5, 200, 90)


def put(path, image, **options):
    """Save an image, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def marked(width=32, height=16):
    """A picture whose upper left quarter differs from the rest."""
    image = Image.new("RGB", (width, height), REST)
    image.paste(TOP, (0, 0, width // 2, height // 2))
    return image


def corner_of(pixels):
    """Which corner of a tensor [3, H, W] has the mark, and the size (H, W)."""
    h, w = pixels.shape[1:]
    corners = {"top left": (1, 1), "top right": (1, w - 2), "bottom left": (h - 2, 1),
               "bottom right": (h - 2, w - 2)}  # fmt: skip
    (found,) = (name for name, (y, x) in corners.items() if pixels[0, y, x] > 128)
    return found, (h, w)


# Where the upper left corner of the stored picture is to be shown, and whether the sides change
# places: the table of EXIF 2.3, tag 274.
SHOWN = {
    1: ("top left", False), 2: ("top right", False), 3: ("bottom right", False),
    4: ("bottom left", False), 5: ("top left", True), 6: ("top right", True),
    7: ("bottom right", True), 8: ("bottom left", True),
}  # fmt: skip


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_pictures_are_turned_as_their_exif_data_say(form, orientation, tmp_path):
    """A camera stores the sensor's rows, and says how to hold them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    path = put(tmp_path / "a" / "1", marked(), format=form, exif=exif, **options)
    corner, turned = SHOWN[orientation]
    assert corner_of(read_picture(str(path))) == (corner, (32, 16) if turned else (16, 32))
    assert corner_of(load(f"folder:{tmp_path}").samples[0])[0] == corner


def test_exif_data_without_sense_turn_nothing(tmp_path):
    """An orientation that is none, and EXIF data that are none, leave the picture as it is."""
    exif = Image.Exif()
    exif[0x0112] = 77
    for number, data in enumerate((exif.tobytes(), b"Exif\0\0MM\0\x2a\xff\xff", b"Exif\0\0")):
        path = put(tmp_path / f"{number}.jpg", marked(), exif=data)
        assert corner_of(read_picture(str(path))) == ("top left", (16, 32))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_white(form, tmp_path):
    """The colour behind full transparency is hidden, half of it is mixed with white."""
    image = Image.new("RGBA", (8, 8), (255, 0, 255, 0))
    image.paste((100, 0, 200, 255), (0, 4, 8, 8))
    image.paste((100, 0, 200, 128), (0, 0, 8, 1))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    pixels = read_picture(str(put(tmp_path / "x", image, format=form, **options)))
    assert pixels[:, 2, 4].tolist() == [255, 255, 255]
    assert pixels[:, 6, 4].tolist() == [100, 0, 200]
    mixed = [round((c * 128 + 255 * 127) / 255) for c in (100, 0, 200)]
    assert (pixels[:, 0, 4] - torch.tensor(mixed)).abs().max() <= 1


def test_every_way_to_say_transparent_is_white(tmp_path):
    """Grey with alpha, a transparent colour, and transparent entries of a palette."""
    grey = Image.new("LA", (4, 4), (30, 0))
    assert read_picture(str(put(tmp_path / "la.png", grey)))[:, 0, 0].tolist() == [255]
    path = put(tmp_path / "l.png", Image.new("L", (4, 4), 30), transparency=30)
    assert read_picture(str(path))[:, 0, 0].tolist() == [255]
    path = put(tmp_path / "rgb.png", Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))
    assert read_picture(str(path))[:, 0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    for name, told in (("p.png", bytes([255, 0])), ("q.png", 1), ("r.gif", 1)):
        path = put(tmp_path / name, palette, transparency=told)
        assert read_picture(str(path))[:, 0, 0].tolist() == [255, 255, 255], name


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_is_told_by_the_content(form, tmp_path):
    """Whatever the name is, or without one."""
    for name in ("x", "x.png", "x.txt", "x.jpeg", "photo.JFIF"):
        path = put(tmp_path / "a" / name, marked(), format=form)
        assert load(f"folder:{tmp_path}").sample_shape == (3, 16, 32), name
        path.unlink()


@pytest.mark.parametrize("form", ["ICO", "TGA", "PCX", "ICNS", "EPS", "JPEG2000", "SGI", "DDS"])
def test_other_formats_are_refused_whatever_they_are_called(form, tmp_path):
    """Rare decoders are not run on files from somewhere; the error names those that are."""
    path = put(tmp_path / "a" / "1.png", marked(32, 32), format=form)
    with pytest.raises(DataError, match=rf"{path} cannot be read: .* PNG, JPEG, WEBP"):
        load(f"folder:{tmp_path}")


def test_an_animation_gives_its_first_picture(tmp_path):
    """Of GIF and WebP files alike."""
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        path = put(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
        assert read_picture(str(path))[0].min() > 240, name


def test_hidden_files_and_other_files_are_left_out_and_counted(tmp_path):
    """What notebooks, macOS and people leave behind is no class and no picture."""
    put(tmp_path / "cats" / "1.png", marked())
    put(tmp_path / "cats" / "deep" / "2.png", marked())
    put(tmp_path / ".ipynb_checkpoints" / "1.png", marked())
    put(tmp_path / "cats" / ".ipynb_checkpoints" / "2-checkpoint.png", marked())
    (tmp_path / "cats" / "._1.png").write_bytes(b"\0\5\26\7")
    (tmp_path / "cats" / ".DS_Store").write_bytes(b"")
    (tmp_path / "cats" / "Thumbs.db").write_bytes(b"thumbs")
    (tmp_path / "labels.csv").write_text("a,b\n")
    data = load(f"folder:{tmp_path}")
    assert (data.class_names, len(data)) == (("cats",), 2)
    assert data.left_out.startswith("4 hidden")
    assert "2 without a picture" in data.left_out
    assert load("rings").left_out == ""


def test_the_order_is_that_of_torchvision(tmp_path):
    """Folder by folder, each sorted: a run that began with an earlier version keeps its order."""
    from torchvision.datasets import ImageFolder

    names = ["b/2", "b/10", "b-c/1", "b/d/1", "b/d/0", "a b/1", "b/1", "Z/1"]
    for shade, name in enumerate(names):
        put(tmp_path / "class" / f"{name}.png", Image.new("L", (2, 2), shade))
    found = [Image.open(path).getpixel((0, 0)) for path, _ in ImageFolder(tmp_path).samples]
    assert load(f"folder:{tmp_path}").samples[:, 0, 0, 0].tolist() == found


@pytest.fixture
def pictures(tmp_path):
    """A class with one good picture."""
    put(tmp_path / "data" / "a" / "good.png", marked())
    return tmp_path / "data"


def place_pipe(path):
    """A named pipe, which would keep a reader waiting."""
    os.mkfifo(path)


def place_socket(path):
    """A socket."""
    held = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    held.bind(path.name)
    os.chdir(here)
    held.close()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (place_pipe, "is a named pipe"),
        (place_socket, "is a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.symlink_to(path), "symbolic link that cannot be followed"),
        (lambda path: path.symlink_to("nowhere"), "symbolic link that cannot be followed"),
        (lambda path: path.symlink_to("."), "link to a folder that it lies in"),
        (lambda path: path.symlink_to(".."), "link to a folder that it lies in"),
    ],
)
@pytest.mark.parametrize("name", ["a/x.png", "a/x", "b"])
def test_what_is_no_file_is_refused_and_not_opened(place, message, name, pictures):
    """Pipes, sockets, devices and links in circles are named, in a class or in its place."""
    path = pictures / name
    place(path)
    began = time.monotonic()
    with pytest.raises(DataError, match=message) as raised:
        load(f"folder:{pictures}")
    assert str(path) in str(raised.value)
    assert time.monotonic() - began < 5


def test_links_to_folders_and_files_are_followed(pictures, tmp_path):
    """A folder of links to where the pictures are is a data set like any other."""
    elsewhere = put(tmp_path / "store" / "1.png", marked())
    (pictures / "linked").symlink_to(elsewhere.parent)
    (pictures / "a" / "one.png").symlink_to(elsewhere)
    data = load(f"folder:{pictures}")
    assert (len(data), data.class_names) == (3, ("a", "linked"))


def png(width, height):
    """A PNG file that announces a size, with three rows of content."""
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(3 * 100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def test_a_picture_that_announces_too_much_is_refused_by_name(pictures):
    """Below Pillow's limit, which only warns, as above it, and without its warning."""
    side = int(MOST_PIXELS**0.5) + 1
    for width, height in ((side, side), (30_000, 30_000), (2**31 - 1, 2**31 - 1)):
        path = pictures / "a" / "huge.png"
        path.write_bytes(png(width, height))
        with pytest.raises(DataError, match=f"{path} "):
            load(f"folder:{pictures}")


def test_broken_files_are_listed_at_once(pictures):
    """The first several by name and with a reason, and how many there are."""
    for number in range(9):
        (pictures / "a" / f"broken-{number}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(number))
    (pictures / "b").mkdir()
    with pytest.raises(
        DataError, match=r"^10 faults in .*; and 5 more; skip_broken=True"
    ) as raised:
        load(f"folder:{pictures}")
    assert all(f"broken-{number}.jpg" in str(raised.value) for number in range(5))


def test_sizes_that_differ_are_counted(pictures):
    """One of them by name, and the number of the others."""
    for number in range(3):
        put(pictures / "a" / f"other-{number}.png", marked(8, 8))
    with pytest.raises(DataError, match=r"other-0\.png is 8x8 .*good\.png is 32x16, and 2 more"):
        load(f"folder:{pictures}")


def test_damaged_tiff_files_say_nothing_on_standard_error(pictures, capfd):
    """libtiff and Pillow's log would add lines to the one that names the file."""
    path = put(pictures / "a" / "x.tif", marked(), compression="tiff_deflate")
    content = bytearray(path.read_bytes())
    content[12:40] = bytes(28)
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} cannot be read"):
        load(f"folder:{pictures}")
    assert capfd.readouterr().err == ""


def test_image_sizes_beyond_the_memory_are_refused(pictures):
    """Before anything is read."""
    with pytest.raises(ValueError, match="image_size is below 9459, and 100000 was given"):
        load(f"folder:{pictures}", image_size=100_000)


def shades(folder, names, size=(4, 3), mode="L"):
    """One-coloured pictures, of shades 0, 1, 2, ... in the order of the names."""
    for shade, name in enumerate(names):
        put(folder / name, Image.new(mode, size, shade if mode == "L" else (shade, 9, 9)))


def test_a_folder_without_sub_folders_has_no_labels(tmp_path):
    """Its pictures in the order of their names; other files and hidden ones are left out."""
    shades(tmp_path, ["a.png", "b.png", "c.bmp"])
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / ".hidden").write_text("none")
    data = load(f"folder:{tmp_path}")
    assert data.samples[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert (data.labels, data.class_names, data.num_classes) == (None, (), 0)
    assert data.left_out.startswith("1 hidden")
    assert ", 1 without a picture" in data.left_out
    (tmp_path / "d.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"d\.png cannot be read.*; skip_broken=True"):
        load(f"folder:{tmp_path}")


def test_a_folder_without_pictures_says_what_is_expected(tmp_path):
    """Neither images nor sub-folders."""
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=r"no images in .*expected images, or one sub-folder"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("mapped", [False, True])
def test_broken_files_are_skipped_on_request(mapped, tmp_path):
    """They are counted, the first one by name; a class needs a picture that can be read."""
    home = tmp_path / "data"
    shades(home, ["a/1.png", "a/2.png", "b/3.png"])
    (home / "a" / "0.jpg").write_bytes(bytes(9))
    (home / "b" / "9.png").write_bytes(bytes(9))
    os.symlink(home / "nowhere", home / "b" / "link.png")
    given = {"root": tmp_path / "root", "mapped": mapped}
    data = load(f"folder:{home}", skip_broken=True, **given)
    assert data.samples[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.labels.tolist() == [0, 0, 1]
    assert data.left_out.startswith("3 broken (first: ")
    with pytest.raises(DataError, match=r"^3 faults in .*; skip_broken=True"):
        load(f"folder:{home}", **given)
    (home / "b" / "3.png").unlink()
    with pytest.raises(DataError, match="b holds no picture that can be read"):
        load(f"folder:{home}", skip_broken=True, **given)


def test_images_in_a_mapped_file_are_those_in_memory(tmp_path):
    """Grey and coloured ones mixed, read once, and again where a file has changed."""
    home, root = tmp_path / "data", tmp_path / "root"
    shades(home, ["a/1.png", "a/2.png"])
    shades(home, ["a/3.png", "b/4.png"], mode="RGB")
    shades(home, ["b/5.png"])
    want = load(f"folder:{home}", mapped=False)
    assert not want.mapped
    read = []
    for _ in range(2):
        got = load(f"folder:{home}", root=root, mapped=True, progress=lambda *at: read.append(at))
        assert got.mapped
        assert torch.equal(got.samples, want.samples)
        assert torch.equal(got.labels, want.labels)
        assert (got.class_names, got.left_out) == (want.class_names, want.left_out)
    assert read == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    kept = sorted(path.name for path in (root / "folders").iterdir())
    assert [name.rpartition(".")[2] for name in kept] == ["json", "uint8"]
    assert fingerprint(got).contents == fingerprint(want).contents
    for one, other in zip(batches(got, 3, 2, rounds=4), batches(want, 3, 2, rounds=4), strict=True):
        assert torch.equal(one.real, other.real)
        assert torch.equal(one.condition, other.condition)
    put(home / "b" / "5.png", Image.new("L", (4, 3), 77))
    os.utime(home / "b" / "5.png", ns=(1, 1))
    changed = load(f"folder:{home}", root=root, mapped=True)
    assert changed.samples[-1].unique().tolist() == [77]


def test_a_mapped_file_is_whole_or_made_anew(tmp_path):
    """A fault leaves no file, and a file that was cut short is not read."""
    home, root = tmp_path / "data", tmp_path / "root"
    shades(home, ["1.png", "2.png"])
    (home / "3.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be read"):
        load(f"folder:{home}", root=root, mapped=True)
    assert list((root / "folders").iterdir()) == []
    (home / "3.png").unlink()
    load(f"folder:{home}", root=root, mapped=True)
    (kept,) = (root / "folders").glob("*.uint8")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert load(f"folder:{home}", root=root, mapped=True).samples[:, 0, 0, 0].tolist() == [0, 1]


def test_large_folders_are_mapped_by_themselves(tmp_path, monkeypatch):
    """Where the pictures take more than half of the memory."""
    shades(tmp_path / "data", ["1.png", "2.png"])
    for memory, mapped in ((47.0, True), (48.0, False)):
        monkeypatch.setattr(folders, "machine_memory", lambda memory=memory: memory)
        assert load(f"folder:{tmp_path / 'data'}", root=tmp_path / "root").mapped == mapped


def test_options_of_folders_are_for_folders():
    """Other data sets have no broken files."""
    for option in ("skip_broken", "mapped"):
        with pytest.raises(ValueError, match=f"{option} is for folder:PATH alone"):
            load("rings", **{option: True})
        with pytest.raises(ValueError, match=f"{option} is True or False"):
            load("folder:.", **{option: "yes"})
