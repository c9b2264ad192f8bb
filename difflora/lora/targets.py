"""Names of the groups of modules that a LoRA may touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import nn

from difflora.errors import BadParameter

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attention": ("to_q", "to_k", "to_v", "to_out.0"),
        "cross_attention_kv": ("attn2.to_k", "attn2.to_v"),
        "feed_forward": ("ff.net.0.proj", "ff.net.2"),
        "projections": ("proj_in", "proj_out"),
        "convolutions": ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    }
)
"""Group -> ends of the names of its modules in a diffusers UNet; convolutions are those of kohya's LoCon."""


def find_targets(unet: nn.Module, targets: Sequence[str]) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The modules that targets name, in the order of ``named_modules()``, each once.

    Args:
        unet: a diffusers UNet, on any device.
        targets: names of ``GROUPS``, or ends of module names at a dot.

    Raises:
        BadParameter: if a target matches nothing, or something else than a plain Linear or Conv2d.
    """
    if isinstance(targets, str) or not targets:
        raise BadParameter(f"targets: {targets!r}; give a list of {', '.join(GROUPS)} or ends of module names")
    unused = dict.fromkeys(targets)
    found = []
    for name, module in unet.named_modules():
        by = [target for target in dict.fromkeys(targets) if _matches(name, target)]
        if by:
            found.append((name, _plain(name, module)))
        for target in by:
            unused.pop(target, None)
    if unused:
        raise BadParameter(
            f"targets: {next(iter(unused))!r} matches no module of this {type(unet).__name__}; "
            f"give {', '.join(GROUPS)} or the end of a module's name"
        )
    return found


def _matches(name: str, target: str) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in GROUPS.get(target, (target,)))


def _plain(name: str, module: nn.Module) -> nn.Linear | nn.Conv2d:
    if isinstance(module, nn.Linear):
        return module
    if isinstance(module, nn.Conv2d):
        # peft gives lora_A the kernel, stride and padding of the base, but neither its groups nor its dilation.
        if module.groups == 1 and set(module.dilation) == {1}:
            return module
        raise BadParameter(f"{name}: a convolution with groups or dilation; leave it out of the LoRA's targets")
    raise BadParameter(
        f"{name}: a {type(module).__name__}; a LoRA's targets are plain Linear and Conv2d modules "
        "(unload other adapters first)"
    )
