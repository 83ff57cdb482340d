"""States of observers as plain values, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def plain(state: DataclassInstance) -> dict[str, object]:
    """Return copies of the fields of `state` on the host, for ``torch.save`` to write."""

    def copied(value: object) -> object:
        if isinstance(value, tuple):  # of tensors on the host that nobody changes, or of names
            return value
        return value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value

    return {field.name: copied(getattr(state, field.name)) for field in fields(state)}


def revived[State: DataclassInstance](
    kind: type[State],
    saved: Mapping[str, object],
    *,
    device: str | torch.device,
    on_host: Collection[str],
) -> State:
    """Return the state that `plain` took apart, its tensors on `device` but for some.

    Parameters
    ----------
    kind : type
        Dataclass of the state.
    saved : mapping of str to object
        What `plain` gave.
    device : torch.device
        Where the observer works.
    on_host : collection of str
        Tensors that stay on the host.

    Raises
    ------
    ValueError
        If `saved` does not hold exactly the fields of `kind`.
    """
    names = {field.name for field in fields(kind)}
    if set(saved) != names:
        raise ValueError(
            f"observer of {kind.__name__.lower()}: the checkpoint holds {sorted(saved)}, expected "
            f"{sorted(names)}."
        )
    values = {
        name: value.clone().to("cpu" if name in on_host else device)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in saved.items()
    }
    return kind(**values)
