"""Where data are put: a device by its name, tried once, with what is wrong in words."""

import warnings

import torch

from fgan.scores import describe


def as_device(device: object) -> torch.device:
    """The device of that name; or raise ValueError where there is none, or none that can be used.

    A `torch.device` and an index, as torch takes them, are taken too.
    """
    if not isinstance(device, str | torch.device | int) or isinstance(device, bool):
        raise ValueError(
            f"device is a torch.device or the name of one, such as 'cpu' or 'cuda', and "
            f"{describe(device)} was given"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.device(device)
            torch.zeros(1, device=found)
    except Exception as error:  # each backend raises its own kind
        reason = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        raise ValueError(f"device {device!r} cannot be used: {reason}") from error
    return found


def working_device(name: str | torch.device | None) -> torch.device:
    """A device by its name; without a name CUDA where there is one, and else the CPU.

    Raises ValueError for a device that is not here, and for "meta", which holds no numbers.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = as_device(name)
    if device.type == "meta":
        raise ValueError(f"device {name!r} cannot be used: it holds no numbers")
    return device
