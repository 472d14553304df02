"""The sizes a mechanism is built from."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Dims:
    """What a mechanism may know when it is built: sizes, never data.

    dim: width D. heads: number of heads H. length: the longest sequence it will see, a constant of the task.
    grid: (rows, columns) when tokens form an image, else None. dropout: probability on attention weights, in mechanisms
    that have such weights. rope: rotate q and k by their position (Su et al. 2021). layer: number of the layer in the
    encoder, from 0, for mechanisms that alternate from layer to layer (shifted windows).
    Raises ValueError for sizes that do not fit together.
    """

    dim: int
    heads: int
    length: int
    grid: tuple[int, int] | None = None
    dropout: float = 0.0
    rope: bool = False
    layer: int = 0

    def __post_init__(self):
        if self.dim % self.heads:
            raise ValueError(f"width {self.dim} is not divisible by {self.heads} heads")
        if self.grid is not None and self.grid[0] * self.grid[1] != self.length:
            raise ValueError(f"a grid of {self.grid[0]} x {self.grid[1]} does not hold {self.length} tokens")
        if self.rope and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head width, not {self.head_dim}")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads
