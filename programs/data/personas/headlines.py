"""Task 4's world: the headline that a persona writes for a local event (see `titles`)."""

import random

from programs.data.personas.titles import Frame, TitleWorld
from programs.data.personas.words import aside, table
from programs.data.personas.world import Case

EVENTS = table("""
    flood: deluge, torrent, overflow
    blaze: fire, inferno, flames
    strike: walkout, stoppage, protest
    merger: takeover, deal, fusion
    election: vote, ballot, poll
    robbery: theft, heist, burglary
    drought: dryness, shortage, thirst
    festival: party, fair, gala
    trial: hearing, verdict, lawsuit
    storm: gale, tempest, hurricane
    outage: blackout, darkness, failure
    jam: gridlock, queue, traffic
    quake: tremor, shaking, shock
    layoff: firing, cuts, dismissal
    parade: march, procession, pageant
    wedding: marriage, vows, union
    crash: collision, wreck, pileup
    auction: sale, bidding, bargain
    scandal: disgrace, affair, outrage
    frost: freeze, chill, ice
    rescue: salvage, saving, relief
    riot: unrest, uproar, turmoil
    harvest: crop, yield, reaping
    recall: withdrawal, return, warning
    outbreak: illness, epidemic, sickness
    discovery: find, surprise, treasure
    closure: shutdown, ending, farewell
    reform: change, overhaul, renewal
    exhibit: show, display, gallery
    tournament: contest, match, cup
""")
FIGURES = (
    "mayor baker teacher farmer plumber dentist banker painter miner weaver tailor judge coach priest driver guard "
    "cook barber vet chef clerk scholar singer dancer juggler beekeeper fisher hunter porter surgeon"
).split()
_IN = ("in", "near", "around", "outside", "across")
_LINKS = ("where", "while", "as", "though")


def _body(event: str, place: str, figure: str, rng: random.Random) -> str:
    return f"{event} {rng.choice(_IN)} {place} {rng.choice(_LINKS)} {figure} {aside(rng)}"


WORLD = TitleWorld(
    "event",
    EVENTS,
    FIGURES,
    (
        Frame("{word} hits {name} as {detail} waits", "the event"),
        Frame("{detail} faces {word} of {name}", "the figure"),
        Frame("why {name} fears {word} and {detail}", "a question"),
        Frame("{name} and {detail} after the {word}", "the place"),
    ),
    _body,
    "text",
)


def case(persona: int, rng: random.Random) -> Case:
    """The headline question of one persona."""
    return WORLD.case(persona, rng)
