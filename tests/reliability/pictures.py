"""Pictures that were damaged on purpose: each is read, or refused by the name of its file.

Valid files of every format are changed at random. The outcome has to be a tensor, or a DataError
that names the file, within seconds, with nothing else on the way: no other exception, no warning
that escapes, no word on standard error, no memory beyond a bound.
"""

import io
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL import Image

import fgan.data

NAME = "mutated pictures"
COUNT = 3000

SECONDS = 20  # for one picture
BATCH = 100  # pictures for one process
MOST_MEMORY = 2**31  # that reading one picture may add

ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp",
           "TIFF": ".tif", "PPM": ".ppm"}  # fmt: skip
OTHER_NAMES = ("x", "x.txt", "x.heic", "x.jpg", "x.png", "x.tiff", "x.gif.bak", "[x].bmp")


def valid():
    """Valid files as (format, content): every format in the modes and kinds that it has."""
    chance = random.Random(1)
    noise = bytes(chance.randrange(256) for _ in range(24 * 17 * 4))
    colours = Image.frombytes("RGBA", (24, 17), noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    plans = [
        ("PNG", "L", {}), ("PNG", "RGB", {"exif": exif}), ("PNG", "RGBA", {}), ("PNG", "P", {}),
        ("PNG", "RGB", {"transparency": (1, 2, 3)}), ("PNG", "P", {"transparency": b"\0\x80"}),
        ("PNG", "I;16", {}), ("PNG", "1", {}), ("PNG", "LA", {}),
        ("JPEG", "L", {}), ("JPEG", "RGB", {"exif": exif}), ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("GIF", "P", {}), ("GIF", "P", {"save_all": True, "append_images": [colours]}),
        ("BMP", "RGB", {}), ("BMP", "P", {}), ("BMP", "1", {}),
        ("WEBP", "RGB", {"exif": exif}), ("WEBP", "RGBA", {"lossless": True}),
        ("WEBP", "RGB", {"save_all": True, "append_images": [colours]}),
        ("TIFF", "RGB", {"exif": exif}), ("TIFF", "L", {"compression": "tiff_lzw"}),
        ("TIFF", "RGBA", {"compression": "tiff_deflate"}), ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}), ("TIFF", "CMYK", {}),
        ("PPM", "RGB", {}), ("PPM", "L", {}), ("PPM", "1", {}),
    ]  # fmt: skip
    files = []
    for kind, mode, options in plans:
        content = io.BytesIO()
        picture = colours.convert("RGB" if mode == "CMYK" else mode.split(";")[0]).convert(mode)
        picture.save(content, format=kind, **options)
        files.append((kind, content.getvalue()))
    return files


def flipped(kind, content, chance, files):
    """One to eight bytes, each with some bits turned; near the start more often than elsewhere."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        end = min(64, len(changed)) if chance.random() < 0.5 else len(changed)
        changed[chance.randrange(end)] ^= chance.randint(1, 255)
    return bytes(changed), "x" + ENDINGS[kind]


def truncated(kind, content, chance, files):
    """The first part, of any length, or the first part and zeros for the rest."""
    length = chance.randrange(len(content))
    rest = bytes(len(content) - length) if chance.random() < 0.3 else b""
    return content[:length] + rest, "x" + ENDINGS[kind]


def spliced(kind, content, chance, files):
    """A piece taken out, repeated, or put in from a file of any format."""
    a, b = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    _, other = chance.choice(files)
    c, d = sorted(chance.randrange(len(other) + 1) for _ in range(2))
    piece = chance.choice([b"", content[a:b] * 2, other[c:d], bytes(chance.randrange(400))])
    return content[:a] + piece + content[b:], "x" + ENDINGS[kind]


def misnamed(kind, content, chance, files):
    """A whole or a damaged file under the name of something else."""
    if chance.random() < 0.5:
        content, _ = chance.choice([flipped, truncated])(kind, content, chance, files)
    return content, chance.choice(OTHER_NAMES)


def huge(kind, content, chance, files):
    """A width and a height that the content does not have, with the checksums in order."""
    sizes = [1, 24, 5000, 9459, 30_000, 65_535, 2**24 - 1, 2**31 - 1, 2**32 - 1]
    width, height = chance.choice(sizes), chance.choice(sizes)
    changed = bytearray(content)
    if kind == "PNG":
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(bytes(changed[12:29])))
    elif kind == "JPEG":
        at = next(i for m in (b"\xff\xc0", b"\xff\xc2") if (i := content.find(m)) > 0)
        changed[at + 5 : at + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif kind == "GIF":
        changed[6:10] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
        at = content.rfind(b"\x2c\0\0\0\0")
        if at > 0 and chance.random() < 0.7:
            changed[at + 5 : at + 9] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    elif kind == "BMP":
        changed[18:26] = struct.pack("<II", width, height)
    elif kind == "WEBP":
        wide = (min(width, 2**24) - 1).to_bytes(3, "little")
        high = (min(height, 2**24) - 1).to_bytes(3, "little")
        if content[12:16] == b"VP8X":
            changed[24:30] = wide + high
        at = content.find(b"\x9d\x01\x2a")
        if at > 0:
            changed[at + 3 : at + 7] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
        elif content[12:16] == b"VP8L":
            changed[21:25] = struct.pack("<I", (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14)
    elif kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = next(i for t in (3, 4) if (i := content.find(struct.pack("<HHI", tag, t, 1))) > 0)
            changed[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    else:
        changed = bytearray(content.replace(b"24 17", f"{width} {height}".encode(), 1))
    return bytes(changed), "x" + ENDINGS[kind]


KINDS = {
    "flipped bytes": flipped,
    "truncated": truncated,
    "spliced": spliced,
    "under another name": misnamed,
    "huge announced sizes": huge,
}


class HangError(Exception):
    """A picture that took too long."""


def outcome(folder, content, name):
    """ "read", "refused", or what went wrong, for one picture in a folder of its own."""
    path = Path(folder) / "class" / name
    path.write_bytes(content)

    def stop(*_):
        raise HangError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = fgan.data.load(f"folder:{folder}")
    except fgan.data.DataError as error:
        named = str(path) in str(error)
        # A file that neither is a picture nor has the name of one is left out and counted.
        empty = f"the class {path.parent} holds no picture" in str(error)
        good = "\n" not in str(error) and (named or (empty and name in OTHER_NAMES))
        return "refused" if good else f"not named: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        path.unlink()
    whole = data.samples.dtype == torch.uint8 and data.samples.ndim == 4 and len(data) == 1
    return "read" if whole else f"a tensor {data.samples.dtype} {tuple(data.samples.shape)}"


def batch(kind, first, count):
    """The outcomes of `count` pictures, the longest time, and the memory that was added."""
    files = valid()
    results, longest = [], 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as noise:
        (Path(folder) / "class").mkdir()
        standard = os.dup(2)
        os.dup2(noise.fileno(), 2)
        try:
            for index in range(first, first + count):
                chance = random.Random(f"{kind} {index}")
                form, content = files[index % len(files)]
                content, name = KINDS[kind](form, content, chance, files)
                began = time.monotonic()
                result = outcome(folder, content, name)
                longest = max(longest, time.monotonic() - began)
                if os.fstat(noise.fileno()).st_size:
                    os.lseek(noise.fileno(), 0, os.SEEK_SET)
                    result = f"standard error: {noise.read(200)!r}"
                    noise.truncate(0)
                    noise.seek(0)
                results.append((index, form, result))
        finally:
            os.dup2(standard, 2)
            os.close(standard)
    added = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    return results, longest, added


def run(count):
    """Rows (label, how many held, how many were tried, a remark), one for each kind of damage."""
    rows = []
    # Not a fork of this process, which may have threads of torch: a lock of theirs would stay shut.
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "fgan.data"])
    for at, kind in enumerate(KINDS):
        mine = count // len(KINDS) + (at < count % len(KINDS))
        results, longest, added = [], 0.0, 0
        for first in range(0, mine, BATCH):
            size = min(BATCH, mine - first)
            # A process of its own for each batch: a crash is an outcome, and memory is measured.
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                try:
                    some, seconds, memory = pool.submit(batch, kind, first, size).result(600)
                except Exception as error:  # the process was ended
                    some, seconds, memory = [(first, "?", f"a crash: {error}")] * size, 0.0, 0
            results += some
            longest, added = max(longest, seconds), max(added, memory)
        wrong = [entry for entry in results if entry[2] not in ("read", "refused")]
        for index, form, result in wrong[:5]:
            print(f"{kind} {index} ({form}): {result}", file=sys.stderr)
        read = sum(result == "read" for _, _, result in results)
        remark = f"{read} read, {len(results) - read - len(wrong)} refused by name"
        remark += f"; slowest {longest:.1f} s, memory {added / 2**20:.0f} MiB"
        held = len(results) - len(wrong) if added < MOST_MEMORY else 0
        rows.append((f"pictures: {kind}", held, len(results), remark))
    return rows
