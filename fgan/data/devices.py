"""Where data are put: a device by its name, tried once, with what is wrong in words."""

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
        found = torch.device(device)
        torch.empty(1, device=found)
    except Exception as error:  # each backend raises its own kind
        reason = " ".join(str(error).split(". ")[0].split())
        raise ValueError(f"device {device!r} cannot be used: {reason}") from error
    return found
