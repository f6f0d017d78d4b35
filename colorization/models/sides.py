"""Which picture sides a network can work on, and how a wrong one is refused."""


def side_refusal(network: str, size: int, smallest: int, multiple: int) -> str | None:
    """Say why a network cannot work on pictures of this side, if so, and which side is nearest."""
    if size < smallest:
        return f"data.size: found {size}; {network} as it is set needs {smallest} at least"
    if size % multiple == 0:
        return None
    near = max(multiple, round(size / multiple) * multiple)
    return (
        f"data.size: found {size}; {network} needs a multiple of {multiple}, the nearest is {near}"
    )
