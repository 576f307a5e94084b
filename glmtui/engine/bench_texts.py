"""Two tasks as people set them, with their answers: what is measured must not depend on the weights.

`COPY` has a text rewritten with small changes, `CHAT` asks something of which the answer repeats nothing.
"""

from __future__ import annotations

from typing import NamedTuple

_LETTER = """\
Dear Anna,

thank you for the seeds and the long letter. We put the beans along the south wall on the second of
May, where the soil had been dug over in autumn, and covered them for nine nights because the
weather station at the harbour still spoke of frost. Of forty beans thirty-six came up. The peas are
a different story: the pigeons took the first row in a single morning, and Anna's trick with the
bottle tops only amused them. So we bought a net, twelve metres long, from the ship chandler, who
asked what kind of fish we meant to catch in a garden.

The house is dry at last. Two men from the village replaced the slates above the kitchen, and the
stain on the ceiling, which the children called the map of Norway, has not grown since. The stove
wants a new door. The smith says that it can be cast from the old pattern, that it will cost about
two hundred crowns, and that he will not begin before the hay is in. Until then we cook outside when
it is fine and eat bread when it rains.

You asked about the boat. She lies upside down behind the shed, scraped and primed, and needs
nothing but a warm week for the varnish. If you come in July, as you say, we could sail to the
islands on the tenth or the eleventh, stay one night with the lighthouse keeper, and be back before
the market on Saturday. Bring the small compass and the blue oilskin; everything else is here.

Yours, Peter
"""
_CHANGES = (
    ("Anna", "Maria"),
    ("nine nights", "six nights"),
    ("thirty-six", "thirty-one"),
    ("twelve metres", "fifteen metres"),
    ("Two men from the village", "Two roofers from town"),
    ("the map of Norway", "the map of Sweden"),
    ("two hundred crowns", "three hundred crowns"),
    ("in July", "in August"),
    ("the tenth or the eleventh", "the third or the fourth"),
    ("the blue oilskin", "a warm coat"),
)


class Task(NamedTuple):
    """A question, and what is answered."""

    question: str
    answer: str


def _rewritten() -> str:
    text = _LETTER
    for before, after in _CHANGES:
        text = text.replace(before, after)
    return text


COPY = Task(
    "Write this letter to Maria instead of Anna, with the new dates and prices, and leave everything else as "
    f"it is.\n\n{_LETTER}",
    _rewritten(),
)
CHAT = Task(
    "Why is the sky blue during the day, and red in the evening?",
    """\
Sunlight looks white, but it is a mixture of all colours, and each has a wavelength of its own:
violet and blue are short, orange and red are long. On its way to us it meets the molecules of the
atmosphere, which are far smaller than any of these waves. They scatter light in all directions, and
short waves much more than long ones, roughly with the fourth power of the frequency. So, wherever
you look by day, some blue reaches your eye that was on its way to somewhere else. Violet is
scattered even more, yet there is less of it in the sun's spectrum, part is absorbed high up, and
our eyes respond to it weakly.

Near sunset the rays cross perhaps forty times as much air before they arrive. By then hardly any
blue is left in the direct beam, and what remains is yellow, then orange, finally a deep red. Dust,
smoke or droplets strengthen the effect, which explains the glowing evenings after volcanic
eruptions. Clouds catch that light from below. The Moon, having no atmosphere, shows a black sky at
noon; on Mars fine iron dust turns things around, with a butterscotch day and a bluish glow around
the setting sun.
""",
)
TASKS = {"copy": COPY, "chat": CHAT}
