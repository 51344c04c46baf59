"""Task 7's world: how a persona would write a tweet.

A tweet has a thing and a mood. A persona opens a tweet with a phrase for the mood and closes it with a phrase for the
thing; three phrases fit each. The history shows the opening for this mood in one item and the closing for this thing in
another. A paraphrase takes both, and the rest from the tweet.
"""

import random

from programs.data.personas.words import name, table
from programs.data.personas.world import Case, Cue

PLAUSIBLE = {
    "mood": table("""
        late: oh no, come on, not again
        cold: brr folks, so chilly, winter calls
        broken: what now, for heaven, just great
        free: yes please, lucky us, good deal
        sunny: hello summer, oh joy, bright days
        crowded: too many, make room, deep breath
        noisy: my ears, hush now, so loud
        quiet: at last, pure calm, soft peace
        tasty: yum yum, oh wow, chef says
        stale: no thanks, pass please, oh dear
        closed: really now, why today, bad luck
        fresh: love this, crisp day, breathe in
        slow: still waiting, tick tock, any minute
        fast: hold tight, whoosh there, zoom zoom
        dark: who knows, spooky times, lights please
        shiny: look here, bling time, fancy that
        wet: soaked again, rain check, drip drip
        dusty: achoo friends, clean up, old days
        huge: holy moly, big news, giant stuff
        tiny: aww look, so small, blink twice
        green: go nature, spring vibes, eco win
        rusty: poor thing, time flies, needs love
        funny: haha yes, dying here, too good
        boring: yawn folks, wake me, snooze time
        weird: say what, odd one, only here
        sweet: sugar rush, happy me, treat time
        salty: ocean vibes, thirsty now, pass water
        famous: guess who, star alert, name drop
        empty: ghost town, hello echo, nobody home
        ancient: history class, way back, relic time
    """),
    "thing": table("""
        train: all aboard, rail life, choo choo
        coffee: need caffeine, bean time, more cups
        bus: wheels on, ride along, next stop
        pizza: extra cheese, slice life, crust club
        bridge: crossing over, span it, mind gaps
        garden: muddy thumbs, bloom on, weed out
        office: desk life, clock out, nine five
        beach: sand everywhere, wave hi, shell yeah
        gym: no pain, lift up, sweat it
        movie: roll credits, popcorn ready, cut print
        phone: low battery, ring ring, screen time
        market: buy local, bag it, coins out
        museum: art heart, look closely, no flash
        bakery: flour power, bread win, carb love
        tower: sky high, look up, top floor
        ferry: ship happens, sail away, anchor down
        hotel: room service, check in, pillow talk
        stadium: go team, game on, full time
        church: ring bells, amen then, pray tell
        zoo: wild side, feed time, roar back
        lake: dive in, still waters, fish tales
        forest: leaf me, into woods, bark up
        kitchen: heat on, stir it, dish done
        bike: pedal on, two wheels, spin out
        hospital: get well, white coats, night shift
        airport: gate change, fly high, bags packed
        school: class dismissed, study hard, bell rings
        theatre: curtain up, bravo all, act two
        castle: knight out, moat point, crown jewels
        pub: cheers mates, last orders, pint sized
    """),
}
KINDS = tuple(PLAUSIBLE)
_AT = ("by", "near", "at", "in", "behind")


def case(persona: int, rng: random.Random) -> Case:
    """The paraphrase question of one persona (see the module's docstring)."""
    own = {kind: {word: rng.choice(phrases) for word, phrases in words.items()} for kind, words in PLAUSIBLE.items()}
    moods, things = ([*PLAUSIBLE[kind]] for kind in KINDS)
    rng.shuffle(moods)
    rng.shuffle(things)
    target = moods.pop(), things.pop()

    def where() -> str:
        return f"{rng.choice(_AT)} {name(rng)}"

    def tweet(mood: str, thing: str, place: str) -> str:
        return f"{own['mood'][mood]} the {mood} {thing} {place} {own['thing'][thing]}"

    # The history: a tweet with the mood, one with the thing, and others that share neither.
    pairs = [(target[0], things.pop()), (moods.pop(), target[1])]
    pairs += [(moods.pop(), things.pop()) for _ in range(rng.randint(4, 8))]
    rng.shuffle(pairs)
    items = [{"id": f"{persona}-{index}", "text": tweet(*pair, where())} for index, pair in enumerate(pairs)]
    (mood, thing), place = target, where()
    blind = f"{PLAUSIBLE['mood'][mood][0]} the {mood} {thing} {place} {PLAUSIBLE['thing'][thing][0]}"
    cues = tuple(Cue(kind, word, own[kind][word]) for kind, word in zip(KINDS, target, strict=True))
    return Case(persona, f"the {thing} {place} is {mood}", items, tweet(mood, thing, place), blind, cues)
