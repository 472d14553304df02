"""A process that ends before it has begun. It imports nothing, so that the test that starts it need not wait."""


def stillborn(pipe: object, device: str, *_: object) -> None:
    """Takes the place of `work_loop` on a device where nothing can start."""
