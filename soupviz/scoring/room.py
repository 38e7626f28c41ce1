"""Whether a device has room for a model: told with sizes before it is moved there, and runs out half way."""

import torch
from torch import nn

from soupviz.errors import TooLargeError

GB = 1e9


def check_room(model: nn.Module, device: torch.device) -> None:
    """Refuse a model that is larger than what a device has free; what of it is there already takes nothing more.

    Raises:
        TooLargeError: with the bytes that it takes, and that are free.
    """
    found = free_bytes(device)
    if found is None:
        return
    free, total = found
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    needed = sum(tensor.nbytes for tensor in tensors.values() if tensor.device.type != device.type)
    if needed > free:
        raise TooLargeError(
            f"the model's weights take {needed / GB:.2f} GB, and {device} has {free / GB:.2f} of its "
            f"{total / GB:.2f} GB free: a model is not divided among devices. Free the device, or take device: cpu, "
            "where the model is held once, however many ingredients there are."
        )


def free_bytes(device: torch.device) -> tuple[int, int] | None:
    """Bytes that a device has free, and in all; None where it shares the machine's memory."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    # What PyTorch keeps for itself, of models that are gone, it takes before it asks for more.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total
