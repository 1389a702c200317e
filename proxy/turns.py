"""In which order endpoints of different weight take their turns.

An endpoint of weight 3 gets three turns while one of weight 1 gets one, spread as evenly as whole turns allow: each turn
goes to whoever is furthest behind its share. Weight 0 gets none, unless nobody has more.
"""

import math
from collections.abc import Sequence

from proxy.model import Endpoint, Target


def turns(endpoints: Sequence[Endpoint]) -> list[Target]:
    """Each target as often as it weighs, divided by what all weights have in common."""
    weighing = [endpoint for endpoint in endpoints if endpoint.weight]
    if len({endpoint.weight for endpoint in weighing}) <= 1:
        return [endpoint.target for endpoint in weighing or endpoints]
    divisor = math.gcd(*(endpoint.weight for endpoint in weighing))
    shares = [endpoint.weight // divisor for endpoint in weighing]
    total, behind = sum(shares), [0] * len(shares)
    order: list[Target] = []
    for _ in range(total):
        behind = [have + share for have, share in zip(behind, shares, strict=True)]
        chosen = max(range(len(shares)), key=behind.__getitem__)
        behind[chosen] -= total
        order.append(weighing[chosen].target)
    return order
