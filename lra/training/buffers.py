"""Saves and restores a model's buffers, such as running statistics, so that a trial does not count as a step."""

from torch import Tensor, nn


class Buffers:
    """The buffers that a model has now; `restore` puts the same tensors and values back."""

    def __init__(self, model: nn.Module, only: set[str] | None = None):
        """only: names of the buffers to keep; all by default."""
        self.model, self.kept = model, dict[str, tuple[Tensor, Tensor, int]]()
        for name, buffer in model.named_buffers():
            if only is None or name in only:
                self.kept[name] = buffer, buffer.detach().clone(), buffer._version

    def replaced(self) -> list[str]:
        """Names of the buffers that are other tensors now."""
        now = dict(self.model.named_buffers())
        return [name for name, (buffer, _, _) in self.kept.items() if now.get(name) is not buffer]

    def changed(self) -> set[str]:
        """Names of the buffers that have been replaced, or written to, since."""
        written = {name for name, (buffer, _, version) in self.kept.items() if buffer._version != version}
        return written | set(self.replaced())

    def restore(self) -> None:
        for name, (buffer, value, _) in self.kept.items():
            owner, _, last = name.rpartition(".")
            setattr(self.model.get_submodule(owner), last, buffer)
            buffer.copy_(value)
