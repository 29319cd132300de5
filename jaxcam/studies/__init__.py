"""Questions about a network: what its maps have in common, what its values are like, what it is made of."""

__all__: list[str] = []
